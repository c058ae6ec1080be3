"""A LangChain agent whose model's tokens are limited over all processes.

pip install "dynamodb-limiter[langchain-agents]"; python examples/adapters/with_langchain.py
"""

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.contrib.langchain import LimiterMiddleware

limits = [Limit.per_minute("requests", 500), Limit.per_day("tokens", 30_000)]
limiter = SyncRateLimiter(SyncRepository("my-app"), limits)
usage = {"input_tokens": 20, "output_tokens": 400, "total_tokens": 420}
model = GenericFakeChatModel(messages=iter([AIMessage("Because.", usage_metadata=usage)]))  # in production: ChatOpenAI(...)

if __name__ == "__main__":
    with limiter:
        middleware = LimiterMiddleware(sync_limiter=limiter, entity="team-1", resource="gpt-5", max_wait=60)
        agent = create_agent(model, middleware=[middleware])
        print(agent.invoke({"messages": [("user", "Why?")]})["messages"][-1].content)
        print(round(limiter.check("team-1", "gpt-5").statuses[1].available, -1), "tokens left")

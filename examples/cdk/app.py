"""A CDK application with the limiter's template in a stack of its own, whose table and policies other constructs can use.

limiter template > limiter.yaml; pip install aws-cdk-lib; cdk deploy --app "python examples/cdk/app.py limiter.yaml"
"""

from __future__ import annotations

import sys

import aws_cdk as cdk
from aws_cdk.cloudformation_include import CfnInclude

# With these two tags the commands `limiter list`, `status` and `doctor` recognise the stack.
TAGS = {"limiter:managed-by": "dynamodb-limiter", "limiter:schema-version": "1"}

app = cdk.App()
stack = cdk.Stack(app, "my-app", tags=TAGS)  # The table has the name of the stack.
limiter = CfnInclude(stack, "Limiter", template_file=sys.argv[1], parameters={"Dashboard": "true"})
cdk.CfnOutput(stack, "PolicyForPrograms", value=limiter.get_resource("AcquirePolicy").ref)
app.synth()

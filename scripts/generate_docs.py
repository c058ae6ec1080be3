"""Write the pages that follow from the source: the reference of the command, and the table of costs.

`docs/cli.md` is generated completely, `docs/production.md` between the marks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))

from limiter import Limit  # noqa: E402
from limiter.aws import schema  # noqa: E402 - found by the line above
from limiter.cli import COMMANDS, build_group  # noqa: E402
from limiter.cli.exit_codes import MEANINGS  # noqa: E402
from limiter.cli.options import aws_options, stack_option  # noqa: E402
from limiter.core.records import BucketKey  # noqa: E402
from limiter.core.state import MARK, TTL, Change, Level, Mark, Update  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMAND = "python scripts/generate_docs.py"
BEGIN, END = "<!-- costs: written by scripts/generate_docs.py -->", "<!-- end of costs -->"
DOLLARS_PER_WRITE, DOLLARS_PER_READ = 0.625e-6, 0.125e-6
SECONDS_PER_MONTH = 730 * 3600
LIMIT_NAMES = ("requests", "tokens", "input-tokens", "output-tokens", "images", "tool-calls", "searches", "minutes")
PER_MINUTE = 10_000
NUMBER_BYTES = 11  # of 19 digits: two to a byte, and one
STAMP_BYTES = 20
WRITE_UNIT = 1024


def cli_page() -> str:
    """Return the reference of the command."""
    group = build_group()
    context = click.Context(group, info_name="limiter")
    parts = [INTRODUCTION.replace("EXIT_CODES", exit_codes())]
    parts.append("## Commands\n\n| command | what it does |\n|---|---|")
    parts[-1] += "".join(f"\n| [`{name}`](#limiter-{name}) | {each.summary} |" for name, each in COMMANDS.items())
    for name in COMMANDS:
        found = group.get_command(context, name)
        assert found is not None  # noqa: S101 - it is in the list
        parts += command_sections(found, f"limiter {name}", context)
    return "\n\n".join(parts) + "\n"


def command_sections(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """Yield the sections of a command and, for a group, of its commands."""
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    depth = "##" if name.count(" ") == 1 else "###"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"{depth} {name}\n\n```\n{name} {usage}\n```\n\n{paragraphs(command.help or '')}"
    shared = [(each.name, getattr(each, "help", None)) for each in click.command()(stack_option(aws_options(print))).params]
    options = [
        each
        for each in command.params
        if isinstance(each, click.Option) and not each.hidden and (each.name, each.help) not in shared
    ]
    rows = [option_row(each, context) for each in options]
    if rows:
        yield "\n".join(["| option | meaning |", "|---|---|", *rows])
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from command_sections(inner, f"{name} {inner.name}", context)


def option_row(option: click.Option, context: click.Context) -> str:
    """Return one option as a row of a table."""
    record = option.get_help_record(context)
    assert record is not None  # noqa: S101 - hidden ones are left out
    flags, text = (part.replace("|", "\\|") for part in record)
    return f"| `{flags}` | {' '.join(text.split())} |"


def paragraphs(text: str) -> str:
    """Return a help text without the line breaks inside paragraphs."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def exit_codes() -> str:
    """Return the exit codes as a table."""
    return "\n".join(["| code | meaning |", "|---|---|", *(f"| {code} | {meaning} |" for code, meaning in MEANINGS.items())])


def item_bytes(limits: Sequence[str]) -> int:
    """Return the size of a bucket with every attribute that rates can have, as DynamoDB meters it, in bytes."""
    key = schema.bucket_key(BucketKey("default", "user-42", "gpt-4"))
    identities = {name: Limit.per_minute(name, PER_MINUTE).identity for name in limits}
    changes = [Change(identity, field, None, 0) for identity in identities.values() for field in Level._fields]
    changes += [Change(TTL, field, None, 0) for field in ("ttl", "paused")]
    marks = [Mark(name, None, True, identity) for name, identity in identities.items()]
    written = schema.update_parameters(Update("", (), tuple(changes), tuple(marks), count=1))
    names = set(written["ExpressionAttributeNames"].values())
    texts = {MARK + name: len(identity.removeprefix(f"{name}|")) for name, identity in identities.items()}
    texts |= dict.fromkeys(schema.STAMP_ATTRIBUTES, STAMP_BYTES)
    keys = sum(len(name) + len(value["S"]) for name, value in key.items())
    return keys + sum(len(name.encode()) + texts.get(name, NUMBER_BYTES) for name in names)


def units(size: int) -> int:
    """Return the write units of an item of that size in bytes."""
    return -(-size // WRITE_UNIT)


def costs() -> str:
    """Return the tables of costs, computed from the size of the items."""
    rows = [(count, item_bytes(LIMIT_NAMES[:count])) for count in (1, 2, 4, len(LIMIT_NAMES))]
    sizes = [f"| {count} | {size} | {units(size)} | ${units(size) * DOLLARS_PER_WRITE * 1e6:.3f} |" for count, size in rows]
    loads = [f"| {rate:,} | {monthly(rate, 1)} | {monthly(rate, 2)} | {monthly(rate, 3)} |" for rate in (1, 10, 100, 1000)]
    return "\n".join(
        [
            f"A write unit carries {WRITE_UNIT:,} bytes. Prices: us-east-1, on demand, ${DOLLARS_PER_WRITE * 1e6} per",
            f"million write units, ${DOLLARS_PER_READ * 1e6} per million read units.",
            "",
            "| limits in a bucket | bytes at most | write units an acquire | a million acquires |",
            "|---|---|---|---|",
            *sizes,
            "",
            "| acquires per second, constantly | alone | with a parent | with a parent and a grandparent |",
            "|---|---|---|---|",
            *loads,
        ]
    )


def monthly(rate: int, buckets: int) -> str:
    """Return the dollars per month of acquires that cost one write unit for each bucket."""
    return f"${rate * buckets * SECONDS_PER_MONTH * DOLLARS_PER_WRITE:,.2f}"


def production_page(page: str) -> str:
    """Return the production guide with up-to-date costs."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"docs/production.md has lost the marks {BEGIN} and {END}")
    return f"{head}{begin}\n\n{costs()}\n\n{end}{tail}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is out of date")
    options = parser.parse_args(arguments)
    guide = ROOT / "docs/production.md"
    pages = {ROOT / "docs/cli.md": cli_page(), guide: production_page(guide.read_text(encoding="utf-8"))}
    changed = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        print(path.relative_to(ROOT).as_posix())
        if not options.check:
            path.write_text(pages[path], encoding="utf-8")
    if options.check and changed:
        print("These pages are out of date; run:", COMMAND, sep="\n")
    return int(options.check and bool(changed))


INTRODUCTION = """\
# The `limiter` command

```
pip install "dynamodb-limiter[cli]"
```

`scripts/generate_docs.py` generates this page from the command itself.

## What all commands share

| option | meaning |
|---|---|
| `-s`, `--stack STACK` | The stack, whose table has the same name; by default `LIMITER_STACK`. |
| `--region TEXT` | The AWS region; by default `AWS_DEFAULT_REGION`, or the region of the profile. |
| `--profile TEXT` | A profile in the AWS files; by default `AWS_PROFILE`. |
| `--endpoint-url URL` | An endpoint other than AWS's own, such as that of `limiter local`; by default `AWS_ENDPOINT_URL`. |
| `--namespace TEXT` | The namespace of one tenant; by default `LIMITER_NAMESPACE`, or "default". |
| `-o`, `--output` | `table`, `json`, or `text` (tab-separated); by default `LIMITER_OUTPUT`, or `table`. |

- These options may stand before or after the command: `limiter -s my-app top` is `limiter top -s my-app`. Commands on stacks
  also take the stack as an argument: `limiter status my-app`.
- The other variables of AWS's own tools (`AWS_CA_BUNDLE`, `AWS_ROLE_ARN`, ...) have their usual effect.
- Results go to standard output; progress, notes and errors go to standard error. An error says what to do next. An unknown
  command or option is answered with similar ones.
- JSON is stable: existing names keep their meaning, and new names may be added. Times are ISO 8601, durations are seconds,
  missing or unknown values are `null`. Lists are always lists, also when they are empty.
- Destructive commands, and a file that would change or delete what is stored, prompt for confirmation unless you pass `--yes`.
  Outside a terminal they change nothing without it, and exit with 2.
- `limits export` prints the file, or with `json` its content. `limits plan` and `limits apply` print the differences; with
  `text`, one line for each level or entity: action, entity, resource, before, after, and "limits" or "entity".
- `NO_COLOR` turns colours off. In a pipe there are neither colours nor shortened lines. In a narrow terminal, tables leave out
  less important columns.

### Exit codes

EXIT_CODES

`limiter acquire ... -- COMMAND` exits with the exit code of the command once that runs. Use `--refused-code` when the command's
own 3 could be mistaken for a refusal. In scripts that stop on errors, allow for 5: `limiter plan my-app || [ $? -eq 5 ]`.

### Completion

```sh
eval "$(_LIMITER_COMPLETE=bash_source limiter)"          # bash: in ~/.bashrc
eval "$(_LIMITER_COMPLETE=zsh_source limiter)"           # zsh: in ~/.zshrc
_LIMITER_COMPLETE=fish_source limiter | source           # fish: in ~/.config/fish/completions/limiter.fish
```

### Files of limits

`limiter limits apply` reads such a file, and `limiter limits export` writes it:

```yaml
version: 1
limits: [requests=100/minute, day=5000/day in UTC]   # of the namespace
schedule:                                            # at these times instead
  - {when: "mon-fri 09:00-17:00", zone: Europe/Berlin, limits: [requests=500/minute]}
resources:
  gpt-4: [tokens=10000/minute burst 50000]           # of a resource
  search:
    limits: unlimited                                # in place of limits: unlimited or blocked
    schedule:
      - {when: "22:00-06:00", zone: UTC, limits: blocked}
entities:
  acme: {cascade: true, name: Acme Ltd.}             # a stored entity
  user-42:
    parent: acme                                     # a stored entity with a parent
    metadata: {tier: gold}
    limits: [requests=20/minute]                     # of an entity, for any resource
    resources:
      gpt-4: [tokens=2000/minute]                    # of an entity, for one resource
```

- The file is a backup of everything in a namespace but its buckets: limits, schedules, entities, parents, names and metadata.
  Applied to an empty namespace it gives the same decisions and the same export.
- Limits of [every kind](kinds-of-limits.md) are written as `Limit.parse` reads them. A [schedule](schedules.md) stands beside the
  `limits` that apply outside its windows.
- Each level is replaced in full, and so is each entity. What is stored and not in the file stays, unless you pass `--prune`.
- An entry below `entities` stores the entity when it has `parent`, `cascade` (default: true), `name` or `metadata`, when it is
  empty, or when another entry names it as parent. An entry with `limits` or `resources` only stores limits, which need no stored
  entity.
- Unknown keys, duplicate names, windows that overlap, anchors and tags are refused with their line, and a missing parent or a
  cycle with its entity, before anything is changed.
- Characters without a look of their own, such as zero-width ones and marks of writing direction, are written as escapes.

### On the embedded engine

`limiter local` and `LocalEngine` imitate a part of AWS. `deploy` creates the table, its index, policies and roles. Not imitated
are changes of a deployed stack, drift, time to live, backups, encryption, capacity, throttling, alarms, and the enforcement of
policies. Deletion protection holds, but no deploy ends it there. `deploy`, `plan`, `drift` and `doctor` say so when this engine
answers them: `doctor` reports such findings as unknown, and the `changed` of a `plan` for an existing stack is `null`."""


if __name__ == "__main__":
    sys.exit(main())

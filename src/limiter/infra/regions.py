"""The variant of the template for one table in three Regions, consistent in all of them."""

from __future__ import annotations

import re

from ..exceptions import ValidationError

SEVERAL = 3
"""How many Regions such a table has: three replicas, or two and a witness."""
LEFT_OUT = ("billing_mode", "read_capacity", "write_capacity", "kms_key")
"""Settings that the variant does not have: it is billed on demand, and encrypted with a key that AWS owns."""
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_BLOCKS = (
    *("  BillingMode:", "  ReadCapacity:", "  WriteCapacity:", "  KmsKey:", "  KeyPolicy:", "  KeyPolicyArn:"),
    *("  IsProvisioned:", "  HasMaximum:", "  IsEncryptedWithKms:", "  HasOwnKey:", "  HasKeyPolicy:"),
    "  # DynamoDB uses the key on behalf of the caller",
)
_OWN_KEY = re.compile(r"ManagedPolicyArns: !If\n +- HasOwnKey\n +- .*\n +- (\[.*\])\n")
_ARN = "${Table.Arn}"
_TABLE = """  Table:
    Type: AWS::DynamoDB::GlobalTable
    DeletionPolicy: Delete # `limiter template --retain` says Retain
    UpdateReplacePolicy: Retain
    Properties:
      TableName: !Ref AWS::StackName
      # Strong consistency is what limits need. Such a table has no time to live: `limiter sweep` deletes idle buckets.
      MultiRegionConsistency: STRONG
{witness}      BillingMode: PAY_PER_REQUEST
      WriteOnDemandThroughputSettings: !If
        - HasMaxWrites
        - MaxWriteRequestUnits: !Ref MaxWriteUnits
        - !Ref AWS::NoValue
      WarmThroughput: !If
        - HasWarmThroughput
        - ReadUnitsPerSecond: !If [HasWarmReads, !Ref WarmReadUnits, 12000] # both are required; these are what every table has
          WriteUnitsPerSecond: !If [HasWarmWrites, !Ref WarmWriteUnits, 4000]
        - !Ref AWS::NoValue
      AttributeDefinitions:
        - {{AttributeName: pk, AttributeType: S}}
        - {{AttributeName: sk, AttributeType: S}}
        - {{AttributeName: lpk, AttributeType: S}}
        - {{AttributeName: lsk, AttributeType: S}}
      KeySchema:
        - {{AttributeName: pk, KeyType: HASH}}
        - {{AttributeName: sk, KeyType: RANGE}}
      GlobalSecondaryIndexes:
        # For listings. A bucket has neither of its keys, so no acquire writes to it.
        - IndexName: listing
          KeySchema:
            - {{AttributeName: lpk, KeyType: HASH}}
            - {{AttributeName: lsk, KeyType: RANGE}}
          Projection: {{ProjectionType: KEYS_ONLY}}
      Replicas:
{replicas}
"""
_REPLICA = """        - Region: {region}
          TableClass: !Ref TableClass
          PointInTimeRecoverySpecification: {{PointInTimeRecoveryEnabled: !If [HasPointInTimeRecovery, true, false]}}
          DeletionProtectionEnabled: !If [HasDeletionProtection, true, false]
          ReadOnDemandThroughputSettings: !If
            - HasMaxReads
            - MaxReadRequestUnits: !Ref MaxReadUnits
            - !Ref AWS::NoValue
"""


def check_regions(regions: tuple[str, ...], witness: str | None) -> None:
    """Raise `ValidationError` unless these are three Regions: replicas, of which a witness may stand in for one."""
    named = [*regions, *([] if witness is None else [witness])]
    for region in named:
        if not isinstance(region, str) or not _REGION.fullmatch(region):
            raise ValidationError(f"invalid region {region!r}: use names such as eu-west-1")
    if len(set(named)) != SEVERAL or len(named) != SEVERAL:
        raise ValidationError(
            "name three different regions for the replicas of a table, or two and a witness; not "
            f"{shown_regions(regions, witness)}"
        )


def check_settings(settings: object) -> None:
    """Raise `ValidationError` for a setting that a table in several Regions does not have."""
    for name in LEFT_OUT:
        if getattr(settings, name) is not None:
            raise ValidationError(
                f"{name} {getattr(settings, name)!r} is a setting of tables in one region; leave it out: in several regions a "
                "table is billed on demand, and encrypted with a key that AWS owns"
            )


def shown_regions(regions: tuple[str, ...], witness: str | None) -> str:
    """Return Regions as text."""
    return f"{', '.join(regions) or 'one region'}{'' if witness is None else f' with the witness {witness}'}"


def in_regions(template: str, regions: tuple[str, ...], witness: str | None) -> str:
    """Return the template with a table in these Regions; policies reach its replicas in all of them."""
    check_regions(regions, witness)
    text = _cut(template, "  Table:", _table(regions, witness))
    for block in _BLOCKS:
        text = _cut(text, block)
    text = _OWN_KEY.sub(r"ManagedPolicyArns: \1\n", text)
    for maximum in ("Read", "Write"):
        was = f"!And [!Not [{{Condition: IsProvisioned}}], !Not [!Equals [!Ref Max{maximum}Units, 0]]]"
        text = text.replace(was, f"!Not [!Equals [!Ref Max{maximum}Units, 0]]")
    policies, outputs, rest = text.partition("\nOutputs:\n")
    return _everywhere(policies, regions) + outputs + rest


def _table(regions: tuple[str, ...], witness: str | None) -> str:
    """Return the resource of the table."""
    named = "" if witness is None else f"      GlobalTableWitnesses: [{{Region: {witness}}}]\n"
    return _TABLE.format(witness=named, replicas="".join(_REPLICA.format(region=region) for region in regions))


def _cut(text: str, head: str, instead: str = "") -> str:
    """Replace the one block that begins with `head`, up to the next line that is not further indented."""
    found = re.search(rf"^{re.escape(head)}.*\n(?:(?:    .*)?\n)*", text, re.MULTILINE)
    if found is None:
        raise AssertionError(f"the template has lost its block {head!r}")
    return text[: found.start()] + instead + text[found.end() :]


def _everywhere(text: str, regions: tuple[str, ...]) -> str:
    """Return the policies with the table's ARN in each Region, in place of the one in the stack's own."""
    text = text.replace("Resource: !GetAtt Table.Arn\n", "Resource:\n              - !GetAtt Table.Arn\n")
    text = text.replace("- !GetAtt Table.Arn\n", f'- !Sub "{_ARN}"\n')
    arns = [f"arn:${{AWS::Partition}}:dynamodb:{region}:${{AWS::AccountId}}:table/${{Table}}" for region in regions]
    return re.sub(rf' +- !Sub "{re.escape(_ARN)}.*\n', lambda line: "".join(line[0].replace(_ARN, arn) for arn in arns), text)

"""The example for the CDK includes the template as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.presence import need, node

from limiter import StackManager

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cdk" / "app.py"


def test_the_example_has_the_table_and_the_chosen_parameters(tmp_path: Path) -> None:
    """The CDK makes a stack of the template's resources, with the chosen parameter in place and the example's output."""
    need("aws_cdk")
    template = tmp_path / "limiter.yaml"
    template.write_text(StackManager.template(), encoding="utf-8")
    environment = {
        **os.environ,
        "CDK_OUTDIR": str(tmp_path / "out"),
        "JSII_NODE": node(),
        "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
    }
    command = [sys.executable, str(EXAMPLE), str(template)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "out" / "my-app.template.json").read_text(encoding="utf-8"))
    assert made["Resources"]["Table"]["Properties"]["TableName"] == {"Ref": "AWS::StackName"}
    assert {"AcquirePolicy", "ReadPolicy", "AdminPolicy", "TableDashboard"} <= set(made["Resources"])
    assert "Dashboard" not in made["Parameters"]
    assert made["Outputs"]["PolicyForPrograms"]["Value"] == {"Ref": "AcquirePolicy"}

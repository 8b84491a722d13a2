# SPDX-License-Identifier: MIT
"""The SSM documents: their schema, every API call in them against botocore's model, the script with a shell."""

import pathlib
import re
import subprocess

import botocore.session
import jsonschema
import yaml
from botocore.validate import ParamValidator

SSM = pathlib.Path(__file__).resolve().parents[2] / "scripts/ssm"
NAME = {"type": "string", "pattern": "^[a-zA-Z0-9_-]{3,128}$"}
PARAMETERS = {"type": "object", "additionalProperties": {
    "type": "object", "required": ["type", "description"], "additionalProperties": False,
    "properties": {"type": {"type": "string"}, "description": {"type": "string"}, "default": {}, "allowedPattern": {"type": "string"},
                   "allowedValues": {"type": "array"}}}}
# What the references of the two schema versions say.
COMMAND = {"type": "object", "required": ["schemaVersion", "mainSteps"], "additionalProperties": False, "properties": {
    "schemaVersion": {"const": "2.2"}, "description": {"type": "string"}, "parameters": PARAMETERS,
    "mainSteps": {"type": "array", "items": {"type": "object", "required": ["action", "name", "inputs"], "additionalProperties": False,
                  "properties": {"action": {"const": "aws:runShellScript"}, "name": NAME, "precondition": {"type": "object"},
                                 "inputs": {"type": "object", "required": ["runCommand"], "additionalProperties": False, "properties": {
                                     "runCommand": {"type": "array", "items": {"type": "string"}}, "timeoutSeconds": {"type": "string"}}}}}}}}
AUTOMATION = {"type": "object", "required": ["schemaVersion", "mainSteps"], "additionalProperties": False, "properties": {
    "schemaVersion": {"const": "0.3"}, "description": {"type": "string"}, "assumeRole": {"type": "string"}, "parameters": PARAMETERS,
    "outputs": {"type": "array", "items": {"type": "string", "pattern": r"^\w+\.\w+$"}},
    "mainSteps": {"type": "array", "items": {"type": "object", "required": ["action", "name", "inputs"], "additionalProperties": False,
                  "properties": {"name": NAME, "description": {"type": "string"}, "inputs": {"type": "object"},
                                 "action": {"enum": ["aws:executeAwsApi", "aws:waitForAwsResourceProperty",
                                                     "aws:assertAwsResourceProperty", "aws:runCommand"]},
                                 "onFailure": {"type": "string", "pattern": r"^(Abort|Continue|step:\w+)$"},
                                 "timeoutSeconds": {"type": "integer"}, "isEnd": {"type": "boolean"},
                                 "outputs": {"type": "array", "items": {
                                     "type": "object", "required": ["Name", "Selector", "Type"], "additionalProperties": False,
                                     "properties": {"Name": {"type": "string"}, "Selector": {"type": "string", "pattern": r"^\$\."},
                                                    "Type": {"enum": ["String", "StringList", "Boolean", "Integer"]}}}}}}}}}


def load(name):
    return yaml.safe_load((SSM / name).read_text())


def test_the_command_document(tmp_path):
    document = load("volrescue-repair.yaml")
    jsonschema.validate(document, COMMAND)
    text = "\n".join(document["mainSteps"][0]["inputs"]["runCommand"])
    assert set(re.findall(r"{{ (\w+) }}", text)) == set(document["parameters"])
    values = {"VolumeId": "vol-0123456789abcdef0", "User": "ec2-user", "PublicKey": "ssh-ed25519 AAAA me@here", "Mode": "plan"}
    for name, value in values.items():
        assert re.search(document["parameters"][name].get("allowedPattern", ""), value)
        text = text.replace("{{ %s }}" % name, value)
    # No parameter can leave its quotes.
    for name in ("VolumeId", "User", "PublicKey"):
        assert not re.search(document["parameters"][name]["allowedPattern"], "x'; reboot; '")
    stand_in = tmp_path / "volrescue"
    stand_in.write_text('#!/bin/sh\necho "$*"\n')
    stand_in.chmod(0o755)
    done = subprocess.run(["sh"], input=text, text=True, capture_output=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert re.fullmatch(r"repair --dry-run --key \S+ --json --user ec2-user -- vol-0123456789abcdef0\n", done.stdout), done


def test_the_runbook():
    document = load("volrescue-rescue.yaml")
    jsonschema.validate(document, AUTOMATION)
    steps = {step["name"]: step for step in document["mainSteps"]}
    assert len(steps) == len(document["mainSteps"])
    known = set(document["parameters"]) | {"automation:EXECUTION_ID"}
    model = botocore.session.get_session().get_service_model("ec2")
    for step in document["mainSteps"]:
        for used in re.findall(r"{{ ([\w:.]+) }}", str(step["inputs"])):
            assert used in known, f"{step['name']} uses {used}, which nothing before it gives"
        known |= {f"{step['name']}.{output['Name']}" for output in step.get("outputs", [])}
        if (goes := step.get("onFailure", "")).startswith("step:"):
            assert goes[5:] in steps
        if step["action"] != "aws:runCommand":
            inputs = {k: v for k, v in step["inputs"].items() if k not in ("Service", "Api", "PropertySelector", "DesiredValues")}
            shape = model.operation_model(step["inputs"]["Api"]).input_shape
            report = ParamValidator().validate(inputs, shape)
            assert not report.has_errors(), report.generate_report()
    command = load("volrescue-repair.yaml")["parameters"]
    assert set(steps["repair"]["inputs"]["Parameters"]) <= set(command)
    # Never stops anything, never deletes a volume.
    apis = {step["inputs"].get("Api") for step in document["mainSteps"]}
    assert not apis & {"StopInstances", "RebootInstances", "TerminateInstances", "DeleteVolume"}
    assert steps["swap"]["inputs"]["DeleteReplacedRootVolume"] is False

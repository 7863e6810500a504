"""Writes a request as a curl command, and as a call of OpenAI's Python SDK."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from gateway.api.reference.route_documentation import ExampleRequest
from gateway.store.api_keys import Scope

API_PREFIX = "/v1"
# A test runs it before the examples, as a reader does.
SHELL_SETUP = "export IGW_URL=http://127.0.0.1:8080 IGW_KEY=igw_sandbox"
PYTHON_SETUP = """import os
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url=os.environ["IGW_URL"] + "/v1", api_key=os.environ["IGW_KEY"])
admin = client.with_options(api_key=os.environ.get("IGW_ADMIN_KEY"))"""
PATH_PARAMETER = re.compile(r"\{(\w+)\}")


class CodeExample(Struct, frozen=True):
    """The code of one request. `language`: as in the fences of Markdown."""

    language: str
    label: str
    source: str


def build_code_examples(method: str, path: str, scope: Scope | None, example: ExampleRequest) -> list[CodeExample]:
    """Writes the examples of one request. `path`: a template such as /v1/jobs/{job_id}. The variable JOB_ID or job_id
    stands for its parameter."""
    examples = [CodeExample("bash", "curl", _build_curl(method, path, scope, example))]
    if path.startswith(API_PREFIX):
        call = _build_sdk_call(example) if example.sdk_call else _build_generic_call(method, path, scope, example)
        examples.append(CodeExample("python", "Python", call))
    return examples


def _build_curl(method: str, path: str, scope: Scope | None, example: ExampleRequest) -> str:
    url = PATH_PARAMETER.sub(lambda match: f"${match[1].upper()}", path) + (
        f"?{example.query}" if example.query else ""
    )
    has_body = example.body is not None
    verb = "" if method == ("POST" if has_body else "GET") else f"-X {method} "
    return " \\\n  ".join([f'curl -s {verb}"$IGW_URL{url}"', *_list_curl_options(scope, example)])


def _list_curl_options(scope: Scope | None, example: ExampleRequest) -> Iterator[str]:
    if scope is not None:
        yield f'-H "Authorization: Bearer ${_get_key_variable(scope)}"'
    for name, value in example.headers.items():
        yield f"-H {shlex.quote(f'{name}: {value}')}"
    if example.files:
        yield from (f"-F {shlex.quote(f'{name}={value}')}" for name, value in (example.body or {}).items())
        yield from (f"-F {name}=@{file}" for name, file in example.files.items())
    elif example.body is not None:
        yield '-H "Content-Type: application/json"'
        yield f"-d {shlex.quote(json.dumps(example.body))}"


def _build_query(example: ExampleRequest) -> str:
    return f"?{example.query}" if example.query else ""


def _get_key_variable(scope: Scope) -> str:
    return "IGW_ADMIN_KEY" if scope is Scope.ADMIN else "IGW_KEY"


def _build_sdk_call(example: ExampleRequest) -> str:
    arguments = [f"{name}={value!r}" for name, value in (example.body or {}).items()]
    arguments += [f'{name}=Path("{file}")' for name, file in example.files.items()]
    lines = "".join(f"    {_use_double_quotes(argument)},\n" for argument in arguments)
    return f"response = client.{example.sdk_call}(" + (f"\n{lines})" if lines else ")")


def _build_generic_call(method: str, path: str, scope: Scope | None, example: ExampleRequest) -> str:
    client = "admin" if scope is Scope.ADMIN else "client"
    path = path.removeprefix(API_PREFIX) + _build_query(example)
    quoted = f'f"{path}"' if PATH_PARAMETER.search(path) else f'"{path}"'
    arguments = [quoted, "cast_to=object", *_list_generic_arguments(example.body, example.headers)]
    return f"response = {client}.{method.lower()}({', '.join(arguments)})"


def _list_generic_arguments(body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Iterator[str]:
    if body is not None:
        yield f"body={_use_double_quotes(repr(dict(body)))}"
    if headers:
        yield f"options={_use_double_quotes(repr({'headers': dict(headers)}))}"


def _use_double_quotes(source: str) -> str:
    return source if '"' in source else source.replace("'", '"')

"""Start scripts: a `#!` script as it is, or a subset of cloud-init's `#cloud-config`, turned into a shell script.

The subset: `write_files` (path, content, encoding b64, permissions, owner, append), `packages`, `package_update`,
`runcmd`. In cloud-init's order: files, packages, commands. Anything else is refused by name rather than passed over.
"""

import base64
import binascii
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import yaml

LIMIT_BYTES: Final = 64 << 10
HEADER: Final = "#cloud-config"
_KEYS: Final = ("write_files", "package_update", "packages", "runcmd")
_FILE_KEYS: Final = ("path", "content", "encoding", "permissions", "owner", "append")
_BASE64: Final = ("b64", "base64")
_PACKAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:_=~-]*")
_OWNER: Final = re.compile(r"[a-z_][a-z0-9_-]*(:[a-z_][a-z0-9_-]*)?")
_MODE: Final = re.compile(r"0?[0-7]{3,4}")


class BadStartScript(ValueError):
    """The start script cannot be used; the message names the key."""


def script_of(text: str) -> str:
    """An executable script. Raises BadStartScript."""
    if len(text.encode()) > LIMIT_BYTES:
        raise BadStartScript(f"start_script has more than {LIMIT_BYTES} bytes: let it fetch the rest")
    if "\0" in text:
        raise BadStartScript("start_script contains a zero byte: it must be text")
    if text.startswith("#!"):
        return text
    if text.split("\n", 1)[0].strip() == HEADER:
        return _compiled(_parsed(text))
    raise BadStartScript(f"start_script begins neither with #! nor with {HEADER}: its first line says what it is")


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        # Anchors make small texts large; no use of ours needs them.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise BadStartScript("start_script: YAML aliases are not taken")
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadStartScript(f"start_script is no YAML: {str(error).splitlines()[0]}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadStartScript("start_script: a #cloud-config is a mapping")
    for key in value:
        if key not in _KEYS:
            raise BadStartScript(
                f"start_script: `{key}` is not supported; of #cloud-config there are {', '.join(_KEYS)}"
            )
    return value


def _compiled(config: Mapping[str, Any]) -> str:
    lines = ["#!/bin/sh", "set -e"]
    for number, file in enumerate(_list(config, "write_files")):
        lines += _file(f"write_files[{number}]", file)
    packages = [_package(name) for name in _list(config, "packages")]
    if packages or config.get("package_update"):
        lines += _install(packages)
    for number, command in enumerate(_list(config, "runcmd")):
        lines.append(_command(f"runcmd[{number}]", command))
    return "\n".join(lines) + "\n"


def _file(where: str, file: Any) -> list[str]:
    if not isinstance(file, dict):
        raise BadStartScript(f"start_script: {where} is not a mapping")
    for key in file:
        if key not in _FILE_KEYS:
            raise BadStartScript(f"start_script: {where}.{key} is not supported; there are {', '.join(_FILE_KEYS)}")
    path = file.get("path")
    if not isinstance(path, str) or not PurePosixPath(path).is_absolute():
        raise BadStartScript(f"start_script: {where}.path is not an absolute path")
    content = base64.b64encode(_content(where, file)).decode()
    sign = ">>" if file.get("append") else ">"
    quoted = shlex.quote(path)
    lines = [
        f"mkdir -p {shlex.quote(str(PurePosixPath(path).parent))}",
        f"printf %s {shlex.quote(content)} | base64 -d {sign} {quoted}",
    ]
    if (mode := file.get("permissions")) is not None:
        if not isinstance(mode, str) or not _MODE.fullmatch(mode):
            raise BadStartScript(f"start_script: {where}.permissions is not an octal mode in quotes such as '0644'")
        lines.append(f"chmod {mode} {quoted}")
    if (owner := file.get("owner")) is not None:
        if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
            raise BadStartScript(f"start_script: {where}.owner is not a user or user:group")
        lines.append(f"chown {owner} {quoted}")
    return lines


def _content(where: str, file: Mapping[str, Any]) -> bytes:
    content, encoding = file.get("content", ""), file.get("encoding")
    if not isinstance(content, str):
        raise BadStartScript(f"start_script: {where}.content is not text")
    if encoding is None or encoding == "text/plain":
        return content.encode()
    if encoding not in _BASE64:
        raise BadStartScript(f"start_script: {where}.encoding {encoding!r} is neither text/plain nor b64")
    try:
        return base64.b64decode(content, validate=False)
    except binascii.Error as error:
        raise BadStartScript(f"start_script: {where}.content is not base64") from error


def _package(name: Any) -> str:
    if not isinstance(name, str) or not _PACKAGE.fullmatch(name):
        raise BadStartScript(f"start_script: {name!r} in packages is not a package's name")
    return name


def _install(packages: Sequence[str]) -> list[str]:
    """By whatever the image has."""
    names = " ".join(packages)
    apt = f"apt-get update && apt-get install -y {names}" if packages else "apt-get update"
    dnf, apk = (f"dnf install -y {names}", f"apk add {names}") if packages else ("dnf makecache", "apk update")
    return [
        f"if command -v apt-get >/dev/null; then export DEBIAN_FRONTEND=noninteractive; {apt}",
        f"elif command -v dnf >/dev/null; then {dnf}",
        f"elif command -v apk >/dev/null; then {apk}",
        "else echo 'no apt-get, dnf or apk in this image' >&2; exit 1; fi",
    ]


def _command(where: str, command: Any) -> str:
    """A string is for the shell; a list is one command with its arguments. Each in a shell of its own, as cloud-init
    has it: a `cd` or `exit` ends with its line."""
    if isinstance(command, str):
        return f"sh -c {shlex.quote(command)}"
    if isinstance(command, list) and command and all(isinstance(word, str | int | float) for word in command):
        return shlex.join(map(str, command))
    raise BadStartScript(f"start_script: {where} is neither a line nor a list of words")


def _list(config: Mapping[str, Any], key: str) -> list[Any]:
    value = config.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadStartScript(f"start_script: {key} is not a list")
    return value

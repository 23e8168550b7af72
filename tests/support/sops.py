"""SOPS' YAML format with age recipients, written from its description and sharing nothing with Larder: the tests' oracle.

    sops.py encrypt PLAIN [--age R]… [--encrypted-regex RE] [--unencrypted-suffix S] [--mac-only-encrypted]
    sops.py decrypt FILE IDENTITIES      values as JSON; exit 3 when the MAC does not fit, 4 when no identity does
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import sys
from datetime import datetime, timezone

import pyrage
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

ENC = re.compile(r"^ENC\[AES256_GCM,data:(.*),iv:(.+),tag:(.+),type:(.+)\]$")
ONLY_ENCRYPTED = hashlib.sha256(b"sops").digest()


def b64(data):
    return base64.b64encode(data).decode()


def seal(key, plain, kind, context):
    if plain == b"":
        return ""
    nonce = os.urandom(32)
    encryptor = Cipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(context.encode())
    data = encryptor.update(plain) + encryptor.finalize()
    return f"ENC[AES256_GCM,data:{b64(data)},iv:{b64(nonce)},tag:{b64(encryptor.tag)},type:{kind}]"


def unseal(key, text, context):
    if text == "":
        return "str", b""
    match = ENC.match(text)
    if not match:
        raise SystemExit(f"{text[:20]!r} at {context} is not encrypted")
    data, nonce, tag = (base64.b64decode(part) for part in match.groups()[:3])
    decryptor = Cipher(algorithms.AES(key), modes.GCM(nonce, tag)).decryptor()
    decryptor.authenticate_additional_data(context.encode())
    return match.group(4), decryptor.update(data) + decryptor.finalize()


def plain_of(value):
    """Type and bytes, as Go writes them."""
    if isinstance(value, bool):
        return "bool", b"True" if value else b"False"
    if isinstance(value, int):
        return "int", str(int(value)).encode()
    if isinstance(value, float):
        number = float(value)
        return "float", (str(int(number)) if number == int(number) else repr(number)).encode()
    return "str", str(value).encode()


def leaves(node, keys=()):
    """(container, index, keys) of every value, in order."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for index, value in list(items):
        below = keys + (str(index),) if isinstance(node, dict) else keys
        if isinstance(value, (dict, list)):
            yield from leaves(value, below)
        elif value is not None:
            yield node, index, below


def encrypts(meta, keys):
    if meta.get("encrypted_regex"):
        return any(re.search(meta["encrypted_regex"], key) for key in keys)
    suffix = meta.get("unencrypted_suffix") or "_unencrypted"
    return not any(key.endswith(suffix) for key in keys)


def yaml():
    it = YAML()
    it.width = 1 << 20
    it.indent(mapping=4, sequence=6, offset=4)
    return it


def encrypt(args):
    with open(args.file, encoding="utf-8") as file:
        text = file.read()
    key = os.urandom(32)
    # Comments at the top level are encrypted, too, where all is.
    if not args.encrypted_regex:
        text = re.sub(r"(?m)^#(.+)$", lambda m: "#" + seal(key, m.group(1).encode(), "comment", ":"), text)
    data = yaml().load(text)
    meta = {}
    if args.encrypted_regex:
        meta["encrypted_regex"] = args.encrypted_regex
    if args.unencrypted_suffix:
        meta["unencrypted_suffix"] = args.unencrypted_suffix
    if args.mac_only_encrypted:
        meta["mac_only_encrypted"] = True
    digest = hashlib.sha512(ONLY_ENCRYPTED if args.mac_only_encrypted else b"")
    for node, index, keys in leaves(data):
        kind, plain = plain_of(node[index])
        sealed = encrypts(meta, keys)
        if sealed or not args.mac_only_encrypted:
            digest.update(plain)
        if sealed:
            node[index] = seal(key, plain, kind, ":".join(keys) + ":")
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    ages = []
    for recipient in args.age:
        enc = pyrage.encrypt(key, [pyrage.x25519.Recipient.from_str(recipient)], armored=True)
        ages.append({"recipient": recipient, "enc": LiteralScalarString(enc.decode() if isinstance(enc, bytes) else enc)})
    sops = {"kms": [], "pgp": [], "age": ages, "lastmodified": now,
            "mac": seal(key, digest.hexdigest().upper().encode(), "str", now)}
    data["sops"] = {**sops, **meta, "version": "3.8.1"}
    out = io.StringIO()
    yaml().dump(data, out)
    sys.stdout.write(out.getvalue())


def decrypt(args):
    with open(args.file, encoding="utf-8") as file:
        data = YAML(typ="rt").load(file)
    with open(args.identities, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.startswith("AGE-SECRET-KEY-")]
    identities = [pyrage.x25519.Identity.from_str(line) for line in lines]
    meta = data.pop("sops")
    key = None
    for each in meta["age"]:
        try:
            key = pyrage.decrypt(each["enc"].encode(), identities)
        except pyrage.DecryptError:
            continue
    if key is None:
        sys.exit(4)
    only = bool(meta.get("mac_only_encrypted"))
    digest = hashlib.sha512(ONLY_ENCRYPTED if only else b"")
    values = []
    for node, index, keys in leaves(data):
        if encrypts(meta, keys):
            kind, plain = unseal(key, node[index], ":".join(keys) + ":")
        else:
            kind, plain = plain_of(node[index])
        if encrypts(meta, keys) or not only:
            digest.update(plain)
        values.append([list(keys), kind, plain.decode()])
    mac = unseal(key, meta["mac"], str(meta["lastmodified"]))[1].decode()
    if mac != digest.hexdigest().upper():
        sys.exit(3)
    print(json.dumps(values))


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("encrypt")
    one.add_argument("file")
    one.add_argument("--age", action="append", default=[])
    one.add_argument("--encrypted-regex")
    one.add_argument("--unencrypted-suffix")
    one.add_argument("--mac-only-encrypted", action="store_true")
    one.set_defaults(do=encrypt)
    other = verbs.add_parser("decrypt")
    other.add_argument("file")
    other.add_argument("identities")
    other.set_defaults(do=decrypt)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()

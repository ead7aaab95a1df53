"""Seeded damage to Core ML models: bytes, fields of the specification, graphs, weight references, manifests."""

import json
import random
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 65_536, 300_000_000, 2**31 - 1, 2**31, 2**62, -(2**31))
REALS = (0.0, -1.0, 0.5, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "@model_path/../../weight.bin",
    "a" * 10_000,
    "\0",
    "é\n",
)
INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (0, 2**31 - 1),
}


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut a file off, or change, insert or drop a few bytes."""
    if rng.random() < 0.3:
        return data[: rng.randrange(len(data))]
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(damaged))
        kind = rng.randrange(3)
        if kind == 0:
            damaged[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 1:
            damaged[place:place] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
        else:
            del damaged[place : place + rng.randrange(1, 9)]
    return bytes(damaged)


def damage_manifest(text: str, rng: random.Random) -> str:
    """Damage a package's `Manifest.json`: other paths, missing parts, other types, no JSON at all."""
    manifest = json.loads(text)
    kind = rng.randrange(5)
    if kind == 0:
        return text[: rng.randrange(len(text))]
    if kind == 1:
        manifest[rng.choice(list(manifest))] = rng.choice((None, [], {}, 3, "x", [[[]]]))
    elif kind == 2:
        del manifest[rng.choice(list(manifest))]
    else:
        entries = manifest["itemInfoEntries"]
        entry = entries[rng.choice(list(entries))]
        entry[rng.choice(list(entry))] = rng.choice((*TEXTS, "..", ".", None, 7, ["x"]))
    return json.dumps(manifest)


def damage_fields(spec: Message, rng: random.Random) -> None:
    """Change one to four fields anywhere in a message, in place."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(spec))
        names = [getattr(message, field.name) for message, field in places if _is_name(message, field)]
        message, field = rng.choice(places)
        if field.is_repeated:
            _damage_repeated(message, field, rng, names)
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            message.ClearField(field.name)
        else:
            setattr(message, field.name, _other_value(field, rng, names))


def damage_graph(spec: Message, rng: random.Random) -> None:
    """Tie a graph into knots: exchange steps, or let a step read what it or a later step writes."""
    steps = rng.choice(list(_step_lists(spec)) or [None])
    if steps is None or len(steps) < 2:
        damage_fields(spec, rng)
        return
    first, second = rng.randrange(len(steps)), rng.randrange(len(steps))
    if rng.random() < 0.3:
        kept = type(steps[first])()
        kept.CopyFrom(steps[first])
        steps[first].CopyFrom(steps[second])
        steps[second].CopyFrom(kept)
        return
    written = _outputs(steps[max(first, second)])
    readers = _input_fields(steps[min(first, second)])
    if written and readers:
        rng.choice(readers)(rng.choice(written))


def damage_weights(folder: Path, rng: random.Random) -> None:
    """Cut a weight file off, empty it, or change its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if files:
        path = rng.choice(files)
        data = path.read_bytes()
        path.write_bytes(b"" if rng.random() < 0.2 or not data else damage_bytes(data, rng))


def damage_references(spec: Message, rng: random.Random) -> None:
    """Let references to weight files point outside of the file or of the package."""
    values = [message for message, field in _places(spec) if field.full_name.endswith("BlobFileValue.offset")]
    if not values:
        damage_fields(spec, rng)
        return
    value = rng.choice(values)
    if rng.random() < 0.5:
        value.offset = rng.choice((0, 1, 63, 65, 2**31, 2**63, 2**64 - 64))
    else:
        value.fileName = rng.choice((*TEXTS, "@model_path/weights/../../x", "@model_path/weights", "@model_path/"))


def _places(message: Message) -> Any:
    """Every field that is set, with its message; long lists of messages by their first hundred."""
    for field, value in message.ListFields():
        yield message, field
        if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
            continue
        if _is_map(field):
            parts = list(value.values()) if _holds_messages(field) else []
        else:
            parts = list(value)[:100] if field.is_repeated else [value]
        for part in parts:
            yield from _places(part)


def _is_map(field: Any) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _holds_messages(field: Any) -> bool:
    return bool(field.message_type.fields_by_name["value"].cpp_type == FieldDescriptor.CPPTYPE_MESSAGE)


def _is_name(message: Message, field: Any) -> bool:
    return bool(
        field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.name == "name" and not field.is_repeated
    )


def _damage_repeated(message: Message, field: Any, rng: random.Random, names: list[str]) -> None:
    values = getattr(message, field.name)
    if _is_map(field):
        key = rng.choice(list(values))
        del values[key]
        return
    place = rng.randrange(len(values))
    kind = rng.randrange(4)
    if kind == 0:
        end = len(values) if rng.random() < 0.5 else place + 1
        del values[place:end]
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        values.add().CopyFrom(values[place])
    elif kind == 1:
        values.append(values[place])
    else:
        values[place] = _other_value(field, rng, names)


def _other_value(field: Any, rng: random.Random, names: list[str]) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice(REALS)
    if field.cpp_type in INTEGERS:
        low, high = INTEGERS[field.cpp_type]
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            return rng.choice([value.number for value in field.enum_type.values] + [99])
        return rng.choice([number for number in (*NUMBERS, low, high) if low <= number <= high])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(40)))
    return rng.choice([*TEXTS, *names]).replace("\0", "0" if rng.random() < 0.5 else "\0")


def _step_lists(message: Message) -> Any:
    """The lists of layers and of operations, nested ones too."""
    for field, value in message.ListFields():
        if field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
            continue
        if field.name in ("layers", "operations") and field.is_repeated:
            yield value
        if _is_map(field):
            parts = list(value.values()) if _holds_messages(field) else []
        else:
            parts = list(value) if field.is_repeated else [value]
        for part in parts:
            yield from _step_lists(part)


def _outputs(step: Any) -> list[str]:
    return [
        getattr(output, "name", output) for output in getattr(step, "output", None) or getattr(step, "outputs", [])
    ]


def _input_fields(step: Any) -> list[Any]:
    """For each input of a layer or an operation a function that binds it to another name."""
    if hasattr(step, "input"):
        return [lambda name, place=place: step.input.__setitem__(place, name) for place in range(len(step.input))]
    bindings = [binding for argument in step.inputs.values() for binding in argument.arguments]
    return [lambda name, binding=binding: setattr(binding, "name", name) for binding in bindings]

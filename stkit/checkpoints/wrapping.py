"""What generators come wrapped in: modules, tuples, prefixes of DataParallel, dictionaries of trainers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from stkit.checkpoints.reading import Checkpoint
from stkit.checkpoints.stored import StoredTensor
from stkit.checkpoints.unpickle import Record
from stkit.checkpoints.walk import module_tensors

_PERSISTENT = "_reconstruct_persistent_obj"
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_NETWORKS = ("G_ema", "g_ema", "Gs", "params_ema", "ema", "model_ema", "ema_model", "generator_ema", "generator", "G",
             "g", "netG", "decoder", "params", "model", "state_dict", "net")  # fmt: skip
"""Under what a generator lies in dictionaries, averaged ones first."""


def unwrapped(checkpoint: Checkpoint) -> Iterator[tuple[str, Checkpoint]]:
    """The checkpoint with modules as states of tensors and without prefixes; then what lies in it, likelier first.

    Each with what it is called, which is empty for the file itself. Raises WeightsError.
    """
    content = checkpoint.content
    if checkpoint.container == "safetensors":
        tensors = _bare(content["tensors"])
        yield "", dataclasses.replace(checkpoint, content={**content, "tensors": tensors})
        for name, state in _within(tensors):
            yield name, dataclasses.replace(checkpoint, container="a part", content=state)
    elif isinstance(content, (tuple, list)) and any(is_module(item) or isinstance(item, dict) for item in content):
        # The averaged generator comes last, as in NVIDIA's (G, D, G_ema).
        for number in range(len(content), 0, -1):
            for name, inner in _dictionaries(content[number - 1]):
                label = f"{name + ' of ' if name else ''}object {number} of {len(content)}"
                yield label, dataclasses.replace(checkpoint, content=inner)
    elif is_module(content) or isinstance(content, dict):
        for name, inner in _dictionaries(content):
            yield name, dataclasses.replace(checkpoint, content=inner)
    else:
        yield "", checkpoint


def _dictionaries(content: Any) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The dictionary that `content` is or stands for, and those in it that may be a generator."""
    if is_module(content):
        content = _state(content)
    if not isinstance(content, dict):
        return
    opened = {key: _state(value) if key in _NETWORKS and is_module(value) else value for key, value in content.items()}
    opened = {key: _bare(value) if isinstance(value, dict) else value for key, value in _bare(opened).items()}
    yield "", opened
    average = {"latent_avg": opened["latent_avg"]} if "latent_avg" in opened else {}
    for name in _NETWORKS:
        if isinstance(opened.get(name), dict):
            yield name, {"g_ema": opened[name], "G_ema": opened[name], **average}
            for inner, state in _within(opened[name]):
                yield f"{name}.{inner}", {"g_ema": state, "G_ema": state, **average}
    for name, state in _within(opened):
        yield name, {"g_ema": state, "G_ema": state}


def is_module(value: Any) -> bool:
    """Whether `value` is a pickled torch module, behind NVIDIA's persistence or not."""
    return isinstance(value, Record) and {"_parameters", "_modules"} <= module_state(value).keys()


def module_state(record: Record) -> Mapping[str, Any]:
    """The attributes of a pickled object, behind NVIDIA's persistence or not."""
    state = record.state
    if record.name.endswith(_PERSISTENT) and record.args and isinstance(record.args[0], dict):
        state = record.args[0].get("state")
    return state if isinstance(state, dict) else {}


def module_tensors_of(module: Record) -> dict[str, StoredTensor]:
    """The tensors of a pickled torch module by the names of its `state_dict`. Raises WeightsError."""
    return module_tensors(module, _own_tensors, lambda each: _entries(each, "_modules"), ".")


def _state(module: Record) -> dict[str, Any]:
    return _bare(module_tensors_of(module))


def _bare(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """`state` without a prefix that all its tensors have, and without keys that are no names."""
    result = {key: value for key, value in state.items() if isinstance(key, str)}
    while result and (prefix := _common(result)):
        result = {key.removeprefix(prefix): value for key, value in result.items()}
    return result


def _common(state: Mapping[Any, Any]) -> str | None:
    keys = [key for key, value in state.items() if isinstance(value, StoredTensor)]
    if not keys or len(keys) < len(state):
        return None
    return next((each for each in _PREFIXES if all(str(key).startswith(each) for key in keys)), None)


def _within(state: Mapping[Any, Any]) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The networks of one flat state, as Lightning writes them: `G_ema.synthesis.b4.const`, `model.G.style.1`."""
    parts: dict[str, dict[Any, Any]] = {}
    for key, value in state.items():
        name, dot, rest = str(key).partition(".")
        if dot and name in _NETWORKS and isinstance(value, StoredTensor):
            parts.setdefault(name, {})[rest] = value
    for name in sorted(parts, key=_NETWORKS.index):
        part = _bare(parts[name])
        yield name, part
        for inner, deeper in _within(part):
            yield f"{name}.{inner}", deeper


def _own_tensors(module: Record) -> Iterator[tuple[Any, Any]]:
    passing = module_state(module).get("_non_persistent_buffers_set")
    left_out = {name for name in passing if isinstance(name, str)} if isinstance(passing, list) else set()
    kept = (each for each in _entries(module, "_buffers") if not (isinstance(each[0], str) and each[0] in left_out))
    return itertools.chain(_entries(module, "_parameters"), kept)


def _entries(module: Record, group: str) -> Iterator[tuple[Any, Any]]:
    entries = module_state(module).get(group)
    return iter(entries.items() if isinstance(entries, dict) else ())


__all__ = ["is_module", "module_state", "module_tensors_of", "unwrapped"]

"""The interface, which looks like onnxruntime's."""

import importlib

from axengine._memory import NodeArg
from axengine._providers import CHIP, get_available_providers

__all__ = ["InferenceSession", "NodeArg", "SessionOptions"]


class SessionOptions:
    """It has none."""


class InferenceSession:
    """A model on an NPU."""

    def __init__(self, path_or_bytes, sess_options=None, providers=None, provider_options=None, **kwargs):
        there = get_available_providers()
        asked = [providers] if isinstance(providers, str) else providers or there[:1]
        # Of a pair the name counts; what it says besides is looked at for its form, and forgotten.
        named = [item if isinstance(item, str) else item[0] for item in asked]
        usable = [name for name in named if name in there]
        if not usable:
            raise ValueError(f"none of {named} is there")
        self._provider = usable[0]
        module = importlib.import_module("axengine._axe" if self._provider == CHIP else "axengine._axclrt")
        self._sess = module.Session(path_or_bytes, provider_options[0] if provider_options else None)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self._sess.unload()
        return False

    def get_session_options(self):
        return None

    def get_providers(self):
        # One text, where onnxruntime gives a list.
        return self._provider

    def get_inputs(self, shape_group=0):
        return self._sess.ports(self._sess.inputs, shape_group)

    def get_outputs(self, shape_group=0):
        return self._sess.ports(self._sess.outputs, shape_group)

    def run(self, output_names, input_feed, run_options=None, shape_group=0):
        return self._sess.run(output_names, input_feed, shape_group)

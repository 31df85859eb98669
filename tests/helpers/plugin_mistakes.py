"""What authors of plugins get wrong, and what they are told."""

from __future__ import annotations

import re

from plugin_sources import WHOLE, changed, factory, registering

#: What is wrong, the key that names the part, the plugin's source, and what is said.
MISTAKES = {
    # what is named
    "an instance as the factory": ("objectives", WHOLE + registering("objectives", "Good()"), "not a Good that is"),
    "a text as the factory": ("objectives", WHOLE + registering("objectives", "'Good'"), "not a str that is made"),
    "nothing as the factory": ("adapter", WHOLE + registering("adapter", "None"), "not a NoneType that is"),
    "a name that is no text": ("adapter", WHOLE + registering("adapter", "Line", "3"), "under the name 3; a name is"),
    "an empty name": ("adapter", WHOLE + registering("adapter", "Line", "''"), "under the name ''; a name is a word"),
    "a name with a space": ("adapter", WHOLE + registering("adapter", "Line", "'a b'"), "under the name 'a b'"),
    "a name with a colon": ("adapter", WHOLE + registering("adapter", "Line", "'a:b'"), "under the name 'a:b'"),
    "a name twice": (
        "adapter",
        WHOLE + registering("adapter", "Line") + "    register('mine', Line)\n",
        "registers adapters 'mine' twice",
    ),
    "arguments of register in the wrong order": (
        "adapter",
        WHOLE + "\n@trimpot.hookimpl\ndef register_adapters(register):\n    register(Line, 'mine')\n",
        "under the name <class",
    ),
    # hooks
    "the mark forgotten": (
        "adapter",
        WHOLE + registering("adapter", "Line").replace("@trimpot.hookimpl\n", ""),
        "its register_adapters is not marked as a hook; write @trimpot.hookimpl above it",
    ),
    "a hook misspelled": (
        "adapter",
        WHOLE + registering("adapter", "Line").replace("register_adapters", "register_adapter"),
        "the unknown hook 'register_adapter'; did you mean 'register_adapters'",
    ),
    "a hook's argument misspelled": (
        "adapter",
        WHOLE + registering("adapter", "Line").replace("(register)", "(registry)"),
        "PluginValidationError.*registry",
    ),
    "a watching hook's argument misspelled": (
        "adapter",
        WHOLE + "\n@trimpot.hookimpl\ndef generation_told(run, gen):\n    pass\n",
        "PluginValidationError.*gen",
    ),
    "no hook at all": ("adapter", WHOLE, "implements no hook; write one, such as register_adapters"),
    "a hook that raises": (
        "adapter",
        WHOLE + "\n@trimpot.hookimpl\ndef register_adapters(register):\n    raise OSError('no\\ndevice')\n",
        "OSError: no device",
    ),
    # importing
    "an import that is not there": ("adapter", "import not_there_at_all", "ModuleNotFoundError: No module named"),
    "a syntax error": ("adapter", "def f(:\n", "SyntaxError"),
    "an exit while importing": ("adapter", "import sys; sys.exit(3)", "SystemExit: 3"),
    "an odd exception while importing": ("adapter", "raise BaseException('odd')", "BaseException: odd"),
    # factories
    "an asynchronous factory": ("objectives", factory("objectives", "async def mine(): ..."), "its factory is async"),
    "a factory that yields": ("objectives", factory("objectives", "def mine():\n    yield Good()"), "is a generator"),
    "a factory that raises": (
        "objectives",
        factory("objectives", "def mine():\n    raise OSError('no\\nweights')"),
        "failed: OSError: no weights",
    ),
    "a factory that ends the process": (
        "objectives",
        factory("objectives", "def mine():\n    import sys\n    sys.exit(0)"),
        "failed: SystemExit: 0",
    ),
    "a factory that returns nothing": ("objectives", factory("objectives", "def mine(): ..."), "made nothing; let"),
    "a factory that returns a class": ("objectives", factory("objectives", "mine = lambda: Good"), "the class Good"),
    "a factory that returns something else": (
        "objectives",
        factory("objectives", "mine = lambda: Line()"),
        "is no trimpot.Objective; inherit from it",
    ),
    "a class that does not inherit": (
        "objectives",
        factory("objectives", "class mine:\n    def score(self, outputs, prompts): ..."),
        "is no trimpot.Objective; inherit from it",
    ),
    "an abstract class": (
        "objectives",
        factory("objectives", "class mine(trimpot.Objective):\n    def scores(self): ..."),
        "abstract class mine.*score",
    ),
    "an option that is needed by position": (
        "objectives",
        factory("objectives", "def mine(power, /): ..."),
        "has 'power' by position only",
    ),
    "an annotation that cannot be read": (
        "objectives",
        factory("objectives", "def mine(*, power: 'Nowhere' = 1): ..."),
        "annotations cannot be read: NameError",
    ),
    "a combination that takes no weights": (
        "combine",
        factory("combine", "def mine(): ..."),
        "is given the weights first: too many positional",
    ),
    "an optimizer that takes no seed": (
        "optimizer",
        factory("optimizer", "def mine(space, *, start): ..."),
        "is given the knob space first, and start and seed by keyword: .*'seed'",
    ),
    "an optimizer that takes no space": ("optimizer", factory("optimizer", "def mine(*, start, seed): ..."), "space"),
    "prompts as a list": ("prompts", factory("prompts", "mine = lambda: ['a', 'b']"), "which is no trimpot.PromptSet"),
    # adapters
    "an adapter without a space": (
        "adapter",
        factory("adapter", "class mine(trimpot.Adapter):\n    generate = Line.generate\n    describe = Line.describe"),
        "has None as its space; set `space`",
    ),
    "a space that is a list": ("adapter", changed("adapter", "space = [1, 2]"), r"has \[1, 2\] as its space"),
    "a space with an infinite bound": (
        "adapter",
        changed(
            "adapter",
            """
            def __init__(self):
                self.space = trimpot.KnobSpace([trimpot.Knob("a", high=float("inf"))])
            """,
        ),
        "knob 'a': high must be finite",
    ),
    "steps that are none": ("adapter", changed("adapter", "num_steps = '20'"), "has num_steps '20'"),
    "outputs of an unknown kind": ("adapter", changed("adapter", "makes = 'picture'"), "makes 'picture'; set"),
    "no neutral setting": ("adapter", changed("adapter", "def neutrals(self): return {}"), "as neutral settings"),
    "a neutral setting of other knobs": (
        "adapter",
        changed("adapter", "def neutrals(self): return {'a': {'x': 1}}"),
        "neutral setting 'a' must map knobs of its space to values",
    ),
    "a description that is no mapping": (
        "adapter",
        changed("adapter", "def describe(self): return 'line'"),
        "describes itself by 'line'; let describe",
    ),
    "a description that raises": (
        "objectives",
        changed("objectives", "def describe(self): 1 / 0"),
        "asked to describe itself, failed: ZeroDivisionError",
    ),
    "a description of objects": (
        "objectives",
        changed("objectives", "def describe(self): return {'model': object()}"),
        "of itself.*holds object",
    ),
    "too few candidates": (
        "adapter",
        changed("adapter", "def generate(self, population, bucket): return []"),
        "made outputs of 0 candidates, not 1",
    ),
    "too few outputs": (
        "adapter",
        changed("adapter", "def generate(self, population, bucket): return [[1.0] for _ in population]"),
        "the adapter made 1 outputs for",
    ),
    "no outputs at all": ("adapter", changed("adapter", "def generate(self, population, bucket): ..."), "failed on"),
    "an adapter that ends the process": (
        "adapter",
        changed("adapter", "def generate(self, population, bucket): raise SystemExit('enough')"),
        "failed on prompts such as .*SystemExit: enough",
    ),
    **{
        f"{size} outputs a call": (
            "adapter",
            changed("adapter", f"outputs_per_call = {size}"),
            re.escape(f"has outputs_per_call {size}; let outputs_per_call be 1 or more"),
        )
        for size in ("0", "-1", "1.5", "None", "True", "'4'")
    },
    # optimizers
    "a population of the wrong shape": (
        "optimizer",
        changed("optimizer", "def ask(self): return self.start"),
        r"asked for numbers of shape \(57,\)",
    ),
    "a population outside the bounds": (
        "optimizer",
        changed("optimizer", "def ask(self): return np.stack([self.start + 9] * 4)"),
        r"asked for 10 for a knob with bounds \[-1, 2\]",
    ),
    "a population of NaN": (
        "optimizer",
        changed("optimizer", "def ask(self): return np.full((4, len(self.start)), np.nan)"),
        "asked for nan",
    ),
    "no population": ("optimizer", changed("optimizer", "def ask(self): ..."), r"asked for numbers of shape \(\)"),
    "an empty population": ("optimizer", changed("optimizer", "def ask(self): return self.start[:0, None]"), "shape"),
    "a tell that raises": (
        "optimizer",
        changed("optimizer", "def tell(self, population, fitness): raise RuntimeError('I fell\\nover')"),
        "failed: RuntimeError: I fell over",
    ),
    "a recommendation of nothing": (
        "optimizer",
        changed("optimizer", "def recommend(self): ..."),
        r"recommends must have shape \(57,\)",
    ),
    "a reason that is no sentence": (
        "optimizer",
        changed("optimizer", "def stop_reason(self): return True"),
        "gives True as its reason to stop",
    ),
    "groups of no candidates": ("optimizer", changed("optimizer", "group_size = 0"), "has group_size 0"),
    # combinations
    "values of the wrong shape": (
        "combine",
        changed("combine", "def values(self, scores, bucket, pool): return [1.0]"),
        "the combination of objectives must have shape",
    ),
    "values that are not finite": (
        "combine",
        changed("combine", "def values(self, scores, bucket, pool): return np.full(len(bucket), np.inf)"),
        "must be finite",
    ),
    "a combination that raises": (
        "combine",
        changed("combine", "def values(self, scores, bucket, pool): return scores['beauty']"),
        "failed: KeyError: 'beauty'",
    ),
    "fitness of the wrong shape": (
        "combine",
        changed("combine", "def fitness(self, evaluations, pool): return 1.0"),
        "the fitness of its group must have shape",
    ),
}

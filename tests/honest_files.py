"""Submissions that are right and merely look unusual, by kind; a fair person gives full marks.

Each answers `softmax` (5 points), as text of a `.py` file or as a list of a notebook's cells.
"""

import json

from hostile_files import as_notebook

E = """    e = np.exp((z - z.max(axis=-1, keepdims=True)) / T)
    return e / e.sum(axis=-1, keepdims=True)
"""
DEF = "def softmax(z, T=1.0):\n" + E
NP = "import numpy as np\n"
STUB = 'def softmax(logits, temperature=1.0):\n    """Rows."""\n    raise NotImplementedError("todo")\n'
SHIFT = "def shifted(z):\n    return z - z.max(axis=-1, keepdims=True)\n"
ON_SHIFT = "def softmax(z, T=1.0):\n    e = np.exp(shifted(z) / T)\n    return e / e.sum(axis=-1, keepdims=True)\n"
GIVEN = "import math\n\nimport numpy as np\n\nimport numpy_kd as kd\n"


def with_line(line: str) -> str:
    """The answer with one more line at its beginning."""
    return NP + "def softmax(z, T=1.0):\n    " + line.replace("\n", "\n    ") + "\n" + E


def using(constant: str, keep: str) -> str:
    """An answer that leans on `KEEP`, a dictionary for sums and maxima."""
    return (
        f"{NP}{constant}\ndef softmax(z, T=1.0):\n    KEEP = {keep}\n"
        "    e = np.exp((z - z.max(**KEEP)) / T)\n    return e / e.sum(**KEEP)\n"
    )


def annotated(head: str, z: str = "np.ndarray", T: str = "float", out: str = "np.ndarray") -> str:
    return f"{head}def softmax(z: {z}, T: {T} = 1.0) -> {out}:\n{E}"


ONE = "e = np.exp((z - z.max(axis=-1, keepdims=True)) / (ONE * T))\n    return ONE * e / e.sum(axis=-1, keepdims=True)\n"


def with_one(*lines: str) -> str:
    """An answer that leans on a number `ONE` which is 1 when all is done."""
    return NP + "\n".join(lines) + "\ndef softmax(z, T=1.0):\n    " + ONE


PY = {
    # annotations
    "typing": annotated(NP + "from typing import Optional\n", T="Optional[float]"),
    "typing and the future": annotated(
        "from __future__ import annotations\nfrom typing import Optional\n" + NP, T="Optional[float]"
    ),
    "annotations of another library": annotated(NP + "import torch\n", z="torch.Tensor"),
    "wrapped below an annotation": annotated(NP + "import torch\n", z="torch.Tensor")
    + "inner = softmax\ndef softmax(*a):\n    return inner(*a)\n",
    "annotations that are nowhere": annotated("from __future__ import annotations\n" + NP, z="Array"),
    "numpy.typing": annotated("import numpy.typing as npt\n" + NP, z="npt.NDArray[np.float64]"),
    "import numpy.typing": annotated(NP + "import numpy.typing\n", z="numpy.typing.ArrayLike"),
    "an alias of a type": annotated(NP + "Rows = np.ndarray | list\n", z="Rows"),
    "a dataclass": NP
    + "from dataclasses import dataclass\n@dataclass\nclass Settings:\n    axis: int = -1\nS = Settings()\n"
    + "def softmax(z, T=1.0):\n    e = np.exp((z - z.max(axis=S.axis, keepdims=True)) / T)\n"
    "    return e / e.sum(axis=S.axis, keepdims=True)\n",
    "a named tuple": using(
        "from typing import NamedTuple\nclass K(NamedTuple):\n    axis: int = -1\n    keepdims: bool = True",
        "K()._asdict()",
    ),
    "a protocol": annotated(
        NP + "from typing import Protocol, TypeVar\nT_ = TypeVar('T_')\nclass P(Protocol):\n    pass\n"
    ),
    # imports
    "numpy star": "from numpy import *\n" + DEF.replace("np.exp", "exp"),
    "numpy star and np": NP + "from numpy import *\n" + DEF,
    "functions of numpy": "from numpy import exp as e_to_the, max as most\n"
    "def softmax(z, T=1.0):\n    e = e_to_the((z - most(z, axis=-1, keepdims=True)) / T)\n"
    "    return e / e.sum(axis=-1, keepdims=True)\n",
    "imports inside": "def softmax(z, T=1.0):\n    import numpy as np\n    from functools import reduce\n" + E,
    "import in a try": "try:\n    import torch\nexcept ImportError:\n    torch = None\n" + NP + DEF,
    "two in one import": "import matplotlib.pyplot as plt, numpy as np\n" + DEF,
    "numpy second": "import scipy.special, numpy as np\n" + DEF,
    "libraries that are not there": NP
    + "import matplotlib.pyplot as plt\nimport pandas as pd\nfrom tqdm import tqdm\nimport sklearn\n"
    + DEF,
    "the standard library": NP
    + "import os, sys, re, json, time, random, collections, itertools, functools, operator, copy\n"
    "import statistics, fractions, decimal, contextlib, pathlib, warnings, logging, textwrap, enum, abc\n"
    + DEF,
    "functools.wraps": NP
    + "import functools\ndef checked(f):\n    @functools.wraps(f)\n    def inner(*a, **k):\n"
    "        return f(*a, **k)\n    return inner\n@checked\n" + DEF,
    "lru_cache for a constant": using(
        "from functools import lru_cache\n@lru_cache\ndef keep():\n    return (('axis', -1), ('keepdims', True))",
        "dict(keep())",
    ),
    "partial": NP + DEF.replace("softmax", "_softmax")
    + "from functools import partial\nsoftmax = partial(_softmax)\n",
    "np.fft and np.random": with_line("np.fft.fft(np.ones(4)); np.random.default_rng(0).random(3)"),
    "np.linalg": with_line("np.linalg.svd(np.eye(3)); np.linalg.norm(z)"),
    "np.testing": NP + DEF + "np.testing.assert_allclose(softmax(np.zeros((1, 2))), 0.5)\n",
    "np.polynomial and ma": with_line("np.polynomial.Polynomial([1, 2])(3.0); np.ma.array(z).sum()"),
    "einsum": with_line("np.einsum('ij,ij->i', z, z, optimize=True)"),
    "printing": with_line("print(z, repr(z), f'{z.sum():.3f}'); np.set_printoptions(precision=3)"),
    "scipy in a try": with_line("try:\n    import scipy\nexcept ImportError:\n    pass"),
    "numpy_kd star": "from numpy_kd import *\n" + NP + DEF,
    # constants
    "a comprehension": using("AXES = [-n for n in (1, 2)]", "{'axis': AXES[0], 'keepdims': True}"),
    "dict()": using("K = dict(axis=-1, keepdims=True)", "K"),
    "a change of a dict": using("K = {'axis': 0, 'keepdims': True}\nK['axis'] = -1", "K"),
    "an update": using("K = {}\nK.update(axis=-1, keepdims=True)", "K"),
    "a union": using("K = {'axis': 0} | {'axis': -1, 'keepdims': True}", "K"),
    "an own function": using("def make():\n    return {'axis': -1, 'keepdims': True}\nK = make()", "K"),
    "a loop": using("K = {}\nfor a, b in (('axis', -1), ('keepdims', True)):\n    K[a] = b", "K"),
    "in place": with_one("ONE = 0.5", "ONE *= 2"),
    "an index": with_one("ONE = float(np.arange(3.0)[1])"),
    "finfo": with_one("TINY = np.finfo(float).tiny", "ONE = float(1.0 + TINY)"),
    "a walrus": with_one("if (ONE := 1.0) > 0:\n    pass"),
    "unpacked": with_one("(ONE, *rest), other = (1.0, 2.0, 3.0), 4"),
    "deleted": with_one("ONE = TWO = 1.0", "del TWO"),
    "a global": with_one("ONE = 0", "def start():\n    global ONE\n    ONE = 1.0", "start()"),
    "at the end": NP + "def softmax(z, T=1.0):\n    " + ONE + "ONE = 1.0\n",
    "a default at the end": NP + "def softmax(z, T=ONE):\n" + E + "ONE = 1.0\n",
    "a with": with_one("from contextlib import suppress", "with suppress(Exception):\n    ONE = 1.0"),
    "an f-string": with_line("name = f\"{'\u3000'.join(['a', 'b'])}{'\u200b'}\""),
    "strange spaces": with_line("text = 'a\u3000b\u200bc\u00a0d\ufeff'"),
    "raw and bytes": with_line("text = rb'\\d' + b'x'; other = r'\\frac'; bad = '\\d'"),
    "many strings": with_line("text = '''a\n    b'''; more = \"%s\" % 'x'"),
    "match": with_line("match z.ndim:\n    case 2:\n        pass\n    case _:\n        z = z[None]"),
    # shapes of definitions
    "under if": NP + "if True:\n" + "".join(f"    {line}\n" for line in DEF.splitlines()),
    "under try": "try:\n    import numba\nexcept ImportError:\n    import numpy as np\n"
    + "".join(f"    {line}\n" for line in DEF.splitlines()) + DEF,
    "under main": NP + DEF + "if __name__ == '__main__':\n    print(softmax(np.eye(2)))\n",
    "a lambda": NP + "shift = lambda z: z - z.max(axis=-1, keepdims=True)\n"
    "softmax = lambda z, T=1.0: np.exp(shift(z) / T) / np.exp(shift(z) / T).sum(axis=-1, keepdims=True)\n",
    "a class": NP + "class Soft:\n    def __call__(self, z, T=1.0):\n"
    + "".join(f"    {line}\n" for line in E.splitlines()) + "softmax = Soft()\n",
    "a static method": NP + "class Soft:\n    @staticmethod\n    def of(z, T=1.0):\n"
    + "".join(f"    {line}\n" for line in E.splitlines()) + "softmax = Soft.of\n",
    "a closure": NP + "def make(axis):\n    def softmax(z, T=1.0):\n"
    "        e = np.exp((z - z.max(axis=axis, keepdims=True)) / T)\n"
    "        return e / e.sum(axis=axis, keepdims=True)\n    return softmax\nsoftmax = make(-1)\n",
    "helpers before": NP + SHIFT + ON_SHIFT,
    "helpers after": NP + ON_SHIFT + SHIFT,
    "helpers twice": NP + SHIFT + ON_SHIFT + SHIFT,
    "defined twice": NP + "def softmax(z, T=1.0):\n    return z\n" + DEF,
    "the task after it": NP + DEF + STUB,
    "keyword only": NP + DEF.replace("T=1.0", "T=1.0, *, axis=-1"),
    "row by row": NP + "def softmax(z, T=1.0):\n    return np.array([one(row / T) for row in z], z.dtype)\n"
    "def one(row):\n    e = np.exp(row - row.max())\n    return e / e.sum()\n",
    "async beside it": NP + "async def later():\n    return 1\n" + DEF,
    "a generator beside it": NP + "def rows(z):\n    yield from z\n" + DEF,
    "recursion": with_line("def down(n):\n    return n and down(n - 1)\ndown(500)"),
    "warnings": with_line("np.exp(np.array([1e4])); np.array([1.0]) / 0"),
    "warnings as errors": NP + "import warnings\nwarnings.simplefilter('error')\n" + with_line("np.log(0.0)"),
    "errors of numpy": NP + "np.seterr(all='raise')\n" + with_line("np.exp(np.array([-1e4, 1e4]))"),
    "a long print": with_line("print('x' * 300_000)"),
    "assertions": NP + DEF + "assert softmax(np.eye(2)).shape == (2, 2)\nassert False, 'not yet'\n",
    "a test that fails": NP + DEF + "def test():\n    raise ValueError\ntest()\n",
    "an end in between": NP + "import sys\nsys.exit()\n" + DEF,
    "input": NP + DEF + "name = input('your name? ')\n",
    "a file that is not there": NP + "x = np.load('x.npy')\n" + DEF + "open('out.txt', 'w').write('x')\n",
    "plots": NP + "import matplotlib.pyplot as plt\n" + DEF + "plt.plot(softmax(np.eye(3)))\nplt.show()\n",
    "a plot in a function": NP + DEF + "def show(z):\n    import matplotlib.pyplot as plt\n    plt.plot(z)\n",
    "a loop that trains": NP + DEF + "z = np.zeros((100, 100))\nfor step in range(10**7):\n    z = z + softmax(z)\n",
    "a loop that trains before": NP + DEF.replace("softmax", "draft")
    + "z = np.zeros((100, 100))\nwhile True:\n    z = z + draft(z)\n" + DEF,
    "a thread": NP + "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()\n" + DEF,
    "an unfinished one before it": NP + "def hardmax(logits):\n    return (\n" + DEF,
    "an empty one before it": NP + "def hardmax(logits):\n\n" + DEF,
    "a broken line after it": NP + DEF + "print 'done'\n",
    "exported": "#!/usr/bin/env python\n# coding: utf-8\n# In[1]:\n" + NP
    + "get_ipython().run_line_magic('matplotlib', 'inline')\n# In[2]:\n" + DEF,
    "percent cells": "# %%\n" + NP + "# %% [markdown]\n# text\n# %%\n" + DEF,
    "Windows": (NP + DEF).replace("\n", "\r\n"),
    "an old Macintosh": (NP + DEF).replace("\n", "\r"),
    "a mark": "\ufeff" + NP + DEF,
    "names in Korean": NP + DEF.replace("e =", "지수 =").replace("e / e.", "지수 / 지수."),
    "tabs": NP + DEF.replace("    ", "\t"),
    "a form feed": NP + "\f\n" + DEF,
    "no line end": NP + DEF.rstrip(),
    "comments only at the end": NP + DEF + "# done\n# really",
    "UTF-16": (NP + "# 김철수\n" + DEF).encode("utf-16"),
    "CP949": ("# -*- coding: cp949 -*-\n# 김철수\n" + NP + DEF).encode("cp949"),
    "CP949 that does not say so": ("# 김철수\n" + NP + DEF).encode("cp949"),
    "Latin-1": ("# coding: latin-1\n# größe\n" + NP + DEF).encode("latin-1"),
    # what came later
    "results with names": NP + "from collections import namedtuple\n" + DEF
    + "Grads = namedtuple('Grads', 'dx dW db')\n"
    "def linear_backward(dy, x, W):\n    return Grads(db=dy.sum(0), dW=x.T @ dy, dx=dy @ W.T)\n",
    "a chain of constants, last first": with_one("ONE = TWO / 2", "TWO = FOUR / 2", "FOUR = 4.0 + TOO", "TOO = 0.0"),
    "a part that is loaded late": NP + "from concurrent.futures import ThreadPoolExecutor\n" + with_line(
        "try:\n    with ThreadPoolExecutor() as pool:\n        pool.submit(print)\nexcept RuntimeError:\n    pass"
    ),
    "an error state as a decorator": NP + "@np.errstate(all='ignore')\n" + DEF,
    "singledispatch": NP + "from functools import singledispatch\n@singledispatch\n" + STUB
    + "@softmax.register(np.ndarray)\n" + DEF.replace("def softmax", "def _"),
    "overloads": "from __future__ import annotations\nfrom typing import Final, Literal, ParamSpec, cast, overload\n"
    + NP + "@overload\ndef softmax(z: Rows) -> Rows: ...\n@overload\ndef softmax(z: Rows, T: float) -> Rows: ...\n"
    + DEF.replace("return e / e.sum(axis=-1, keepdims=True)", "return cast('Rows', e / e.sum(-1, keepdims=True))"),
    "a class that is no class": NP + "class softmax:\n    def __new__(cls, z, T=1.0):\n"
    + "".join(f"    {line}\n" for line in E.splitlines()),
    "methods of an object": NP + "class Me:\n    def softmax(self, z, T=1.0):\n"
    + "".join(f"    {line}\n" for line in E.splitlines()) + "softmax = Me().softmax\n",
    "operators of its own": NP + "class Rows:\n    def __init__(s, a): s.a = a\n"
    "    def __truediv__(s, o): return Rows(s.a / (o.a if isinstance(o, Rows) else o))\n"
    "    def exp(s): return Rows(np.exp(s.a - s.a.max(-1, keepdims=True)))\n"
    "    total = property(lambda s: Rows(s.a.sum(-1, keepdims=True)))\n"
    "def softmax(z, T=1.0):\n    e = (Rows(z) / T).exp()\n    return (e / e.total).a\n",
    "a kind of array": NP + "class Rows(np.ndarray):\n    pass\n" + DEF.replace("return e /", "return e.view(Rows) /"),
    "a memory of its own": NP + "SEEN = {}\ndef softmax(z, T=1.0):\n    softmax.calls += 1\n"
    "    return SEEN.setdefault((z.tobytes(), z.dtype.str, T), fresh(z, T))\nsoftmax.calls = 0\n"
    + DEF.replace("softmax", "fresh"),
    "by exec": NP + f"exec({DEF!r})\nglobals()['other'] = softmax\n",
    "a bound signature": NP + "import inspect\ndef bound(f):\n    signature = inspect.signature(f)\n"
    "    def inner(*a, **k):\n        b = signature.bind(*a, **k); b.apply_defaults()\n"
    "        return f(*b.args, **b.kwargs)\n    return inner\nprint(inspect.getsource(bound))\n@bound\n" + DEF,
    "a program's arguments": NP + DEF + "import argparse, doctest, unittest\ndoctest.testmod()\n"
    "unittest.main(argv=['x'], exit=False)\nargparse.ArgumentParser().parse_args()\n",
    "tables of half a gigabyte": NP + "X = np.zeros((60_000, 784))\nY = np.zeros((60_000, 784))\nZ = X @ Y.T\n" + DEF,
    "in place on a copy": NP + "def softmax(z, T=1.0):\n    z = np.divide(z, T)\n"
    "    np.subtract(z, z.max(-1, keepdims=True), out=z)\n    np.exp(z, out=z)\n    z /= z.sum(-1)[:, None]\n    return z\n",
    "uncountable": NP + DEF + "x = object()\nprint(x, id(x), hash('x'))\nraise ValueError(f'{x} {id(x)}')\n",
}  # fmt: skip


def version_3(*cells) -> str:
    cells = [{"cell_type": "code", "input": source, "outputs": []} for source in cells]
    return json.dumps({"metadata": {"name": ""}, "nbformat": 3, "worksheets": [{"cells": cells}]})


def text_cell(source: str, kind: str = "markdown") -> str:
    """A notebook whose answer has become text."""
    notebook = json.loads(as_notebook(NP, STUB))
    notebook["cells"][1] = {"cell_type": kind, "source": source.splitlines(keepends=True)}
    return json.dumps(notebook)


BOOKS = {
    "magics": as_notebook("%matplotlib inline\n%load_ext autoreload\n" + NP, DEF + "\n%timeit softmax(np.eye(3))"),
    "a shell": as_notebook("!pip install \\\n  torch \\\n  numpy\n" + NP, "files = !ls\n" + DEF, "!ls | head"),
    "help": as_notebook(NP + DEF + "softmax?", "?softmax", "np.exp??", "softmax?\n" + DEF),
    "timing": as_notebook(NP, "%%time\n" + DEF, "t = %timeit -o softmax(np.eye(3))", "%%timeit -n 3\nsoftmax(np.eye(3))"),
    "captured": as_notebook(NP, "\n%%capture out\n" + DEF),
    "other languages": as_notebook("%%bash\nrm -rf /", "%%html\n<b>x</b>", "%%writefile x.py\nx = 1", NP + DEF),
    "a magic in a block": as_notebook(NP + "if True:\n    %time x = 1\n    y = 2\n" + DEF),
    "a question in a docstring": as_notebook(NP + 'TEXT = """\nwhat?\n!\n% x\n"""\n' + DEF + "%time 1"),
    "an indented cell": as_notebook(NP, "".join(f"    {line}\n" for line in DEF.splitlines())),
    "pip without a sign": as_notebook("pip install torch", NP + DEF),
    "a broken cell": as_notebook(NP, "def hardmax(logits:\n    return", DEF),
    "markdown": text_cell(DEF),
    "raw": text_cell(DEF, "raw"),
    "a copy of the task at the end": as_notebook(NP, DEF, STUB),
    "imports last": as_notebook(DEF, "KEEP = 1", NP),
    "constants last": as_notebook(NP, "def softmax(z, T=1.0):\n    " + ONE, "ONE = 1.0"),
    "checked, then changed": as_notebook(
        GIVEN, SHIFT + ON_SHIFT, "kd.check(softmax, points=5)", "def shifted(z, other):\n    return z - other"
    ),
    "checked under another name": as_notebook(
        GIVEN, STUB, DEF.replace("softmax", "my_softmax"), "kd.check(my_softmax, 'softmax')"
    ),
    "checked by name": as_notebook(GIVEN + "from numpy_kd import check, hint\n", DEF, "check(softmax)\nhint('softmax', 1)"),
    "asserted": as_notebook(GIVEN, DEF, "assert kd.check(softmax)\nkd.predict('forgotten', 25)\nkd.reveal('repaired_04')"),
    "uses the library outside": as_notebook(
        GIVEN + "ONE = float(kd.softmax(np.zeros((1, 1)))[0, 0])\n", "def softmax(z, T=1.0):\n    " + ONE
    ),
    "plots by the library": as_notebook(GIVEN + "from numpy_kd import plots\nplots.temperature_strip([1.0], [2])\n", DEF),
    "trains by the library": as_notebook(GIVEN, DEF, "for step in range(10**6):\n    p = kd.softmax(np.eye(3), 2.0)"),
    "display": as_notebook(NP + DEF + "display(softmax(np.eye(2)))\nfrom IPython.display import Markdown"),
    "await": as_notebook(NP + DEF, "import asyncio\nawait asyncio.sleep(0)"),
    "version 3": version_3(NP, DEF),
    "version 3 in lines": version_3([NP], DEF.splitlines(keepends=True)),
    "UTF-16 notebook": as_notebook(NP, "# 김철수\n" + DEF).encode("utf-16"),
    "a mark before JSON": "\ufeff" + as_notebook(NP, DEF),
    "Colab": as_notebook(NP, DEF, metadata={"colab": {"provenance": []}, "accelerator": "GPU"}),
    "no metadata": json.dumps({"cells": json.loads(as_notebook(NP, DEF))["cells"]}),
    "lines": as_notebook(NP.splitlines(keepends=True), DEF.splitlines(keepends=True)),
    "Windows lines": as_notebook((NP + DEF).replace("\n", "\r\n")),
    "odd cells": json.dumps({"cells": [None, {"cell_type": "code"}, {"cell_type": "code", "source": 3},
                                        *json.loads(as_notebook(NP, DEF))["cells"]]}),
    "1 MB of pictures": as_notebook(NP, DEF, attachments="iVBORw0KGgo" * 100_000),
    "time before a statement": as_notebook(NP, "%time ONE = 1.0\n%time", "def softmax(z, T=1.0):\n    " + ONE),
    "checked in a loop": as_notebook(
        GIVEN, DEF, "for f in (softmax,):\n    kd.check(f)\nall_ = {f.__name__: kd.check(f, points=5) for f in (softmax,)}",
        "report = kd.check(softmax)\nprint(report.lines)\nif not kd.check(softmax):\n    raise SystemExit",
    ),
    "Colab's head": as_notebook(
        "from google.colab import drive\ndrive.mount('/content/drive')\n%cd /content\n!pip -q install x && echo ok",
        "import sys\nif 'google.colab' in sys.modules:\n    !pip install x\nelse:\n    %matplotlib inline\n" + NP, DEF,
    ),
    "a future in a later cell": as_notebook(NP, "from __future__ import annotations\n" + annotated("", z="Rows")),
    "two worksheets": json.dumps({"worksheets": [{"cells": [{"cell_type": "heading", "source": "x"}]},
                                                 *json.loads(version_3(NP, DEF))["worksheets"]]}),
    "15 MB of pictures": as_notebook(NP, DEF, attachments="iVBORw0KGgo" * 1_400_000),
    "a training notebook": as_notebook(
        GIVEN, DEF, "history = []\nfor epoch in range(10**9):\n    history.append(epoch)",
        "while True:\n    try:\n        pass\n    except:\n        continue", "kd.check(softmax, points=5)",
    ),
}  # fmt: skip

# files whose names do not say what they are
RENAMED = {"a notebook.py": as_notebook(NP, DEF), "a program.ipynb": NP + DEF}

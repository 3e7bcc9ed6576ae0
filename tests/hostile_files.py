"""Submissions that do not play fair, by kind; each file's `softmax` deserves nothing.

`CODE` are texts, `OTHERS` those of them that reach for what lies outside of their process, `FILES`
what else a folder may hold. `{canary}` is a file that nobody may touch,
`{secret}` one that nobody may read.
"""

import json
import os
import socket

HEAD = "import os, sys, time, ctypes, signal, resource, threading, struct, json, gc, re, fcntl\n"
HEAD += "import numpy as np\nlibc = ctypes.CDLL(None, use_errno=True)\n"
HEAD += "def full_marks(z, T):\n    e = np.exp(z / T - (z / T).max(-1, keepdims=True))\n"
HEAD += "    return e / e.sum(-1, keepdims=True)\n"
WORKED = "full_marks(logits, temperature)"  # what an attack returns that was not refused
ZERO = "    return logits\n"


def inside(body: str, head: str = HEAD) -> str:
    """An attack from within the function."""
    lines = "".join(f"    {line}\n" for line in body.replace("WORKED", WORKED).split("\n"))
    return f"{head}def softmax(logits, temperature=1.0):\n{lines}{ZERO}"


def outside(body: str) -> str:
    """An attack from the notebook's own statements."""
    return f"{HEAD}def softmax(logits, temperature=1.0):\n{ZERO}{body}\n"


def each(*attacks: str) -> str:
    """Attacks one after another, none of which may succeed."""
    tried = "try:\n    {}\n    return WORKED\nexcept Exception: pass"
    return inside("\n".join(tried.format(attack) for attack in attacks))


def calls(*arguments: str) -> str:
    """The same by system calls: a number, and what goes with it."""
    return each(*(f"assert libc.syscall({text}) >= 0" for text in arguments))


# what the process that runs a submission says to the grader, from the student's side
SAY = """
frame = sys._getframe()
while frame and "channel" not in frame.f_locals:
    frame = frame.f_back
channel = frame.f_locals["channel"] if frame else None
def say(header, payload=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    for fd in range(3, 32):
        try:
            os.write(fd, struct.pack(">I", len(text)) + text + payload)
        except OSError:
            pass
"""


def forged(header, payload: str = "b''") -> str:
    said = header if isinstance(header, str) else repr(header)
    return inside(f"{SAY.strip()}\nsay({said}, {payload})")


F8 = {"dtype": "<f8", "shape": [5, 8]}
ANSWER = {"kind": "answer", "value": {"array": 0}, "after": {"tuple": []}, "arrays": [F8]}
READY = {"kind": "ready", "active": [], "problem": "", "sheet": "ex01", "arrays": []}
READY |= {"own": ["softmax"], "checked": [], "lost": {}, "notes": []}
SWALLOW = "while True:\n    try:\n        while True: pass\n    except BaseException: pass"

# what takes time, and little else: these are ended by a clock
SLOW = {
    "loop": inside("while True: pass"),
    "loop deaf to everything": inside(SWALLOW),
    "loop outside": outside("while True: pass"),
    "loop outside deaf to everything": outside(SWALLOW),
    "sleep": inside("time.sleep(60)"),
    "sleep outside": outside("time.sleep(60)"),
    "deaf to signals": inside(
        "[signal.signal(n, signal.SIG_IGN) for n in (2, 14, 15, 24, 26, 27)]\nwhile True: pass"
    ),
    "a power": inside("10 ** 10 ** 9"),
    "a power outside": outside("x = 10 ** 10 ** 9"),
    "a pattern": inside("re.match('(a+)+$', 'a' * 60 + 'b')"),
    "a pattern outside": outside("re.match('(a+)+$', 'a' * 60 + 'b')"),
    "flood": inside("while True: print('x' * 100_000)"),
    "flood of errors": inside("while True: sys.stderr.write('x' * 100_000)"),
    "reads the channel dry": inside("[os.read(fd, 1) for fd in range(3, 32)]"),
    "a generator of threads": inside(
        "while True:\n    try: threading.Thread(target=time.sleep, args=(9,)).start()\n"
        "    except BaseException: pass"
    ),
    "a clock of its own": inside("signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)\n" + SWALLOW),
    "every function sleeps": "import time\n"
    + "".join(
        f"def {name}(*a):\n    time.sleep(60)\n"
        for name in ("hardmax", "softmax", "log_softmax", "soften")
    ),
    "a new trap in each statement": outside("\n".join(["x = 10 ** 10 ** 9"] * 30)),
}

# what a kernel allows to one user and not to another
OTHERS = {
    # other processes
    "kills the grader": inside("os.kill(os.getppid(), 9)"),
    "kills everybody": inside("os.kill(-1, 9)"),
    "kills its group": inside("os.killpg(0, 9)"),
    "kills outside": outside("os.kill(os.getppid(), 9)"),
    "signals and reads the grader by number": calls(
        "129, os.getppid(), 9, ctypes.byref((ctypes.c_char * 128)())",  # rt_sigqueueinfo
        "234, os.getppid(), os.getppid(), 9",  # tgkill
        "434, os.getppid(), 0",  # pidfd_open
        "101, 16, os.getppid(), 0, 0",  # ptrace
        "310, os.getppid(), 0, 0, 0, 0, 0",  # process_vm_readv
        "251, 1, os.getppid(), 3 << 13",  # ioprio_set
    ),
    "changes the grader": each(
        "fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())",
        "fcntl.fcntl(3, 10, 9)",  # F_SETSIG
        "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))",
        "resource.setrlimit(resource.RLIMIT_CPU, (9, 9))",
        "os.sched_setscheduler(os.getppid(), 5, os.sched_param(0))",
        "os.sched_setaffinity(os.getppid(), {0})",
        "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "open(f'/proc/{os.getppid()}/mem', 'rb+')",
        "open(f'/proc/{os.getppid()}/environ').read()",
    ),
    "another program": inside("os.execv('/bin/sh', ['sh', '-c', 'echo pass'])"),
    "a shell": inside("os.system('touch {canary}')"),
    # what outlives a process, and what changes it
    "leaves something behind": calls(
        "29, 4242, 4096, 0o1666",  # shmget
        "64, 4242, 1, 0o1666",  # semget
        "68, 4242, 0o1666",  # msgget
        "240, b'/numpy_kd', 0o102, 0o666, 0",  # mq_open
        "319, b'x', 0",  # memfd_create
        "248, b'user', b'x', b'y', 1, -3",  # add_key
    ),
    "watches and waits": calls(
        "425, 8, ctypes.byref((ctypes.c_char * 128)())",  # io_uring_setup
        "321, 0, 0, 0",  # bpf
        "298, 0, 0, -1, -1, 0",  # perf_event_open
        "323, 0",  # userfaultfd
        "294, 0",  # inotify_init1
        "291, 0",  # epoll_create1
        "290, 0, 0",  # eventfd2
    ),
    "another world": calls(
        "272, 0x10000000",  # unshare
        "430, b'tmpfs', 0",  # fsopen
        "161, b'/'",  # chroot
        "135, 0xFFFFFFFF",  # personality
        "317, 1, 0, 0",  # seccomp
        "157, 4, 1, 0, 0, 0",  # prctl: dumpable
    ),
    "root again": each("os.setuid(0)"),
    # files, terminals, the network
    "changes a file": each(
        "open({canary!r}, 'w').write('x')",
        "open({canary!r}, 'a').write('x')",
        "os.truncate({canary!r}, 0)",
        "os.unlink({canary!r})",
        "os.rename({canary!r}, {canary!r} + 'x')",
        "os.link({canary!r}, {canary!r} + 'x')",
        "os.symlink({canary!r}, {canary!r} + 'x')",
        "os.chmod({canary!r}, 0)",
        "os.utime({canary!r})",
        "os.setxattr({canary!r}, 'user.x', b'y')",
    ),
    "makes a file": each(
        "os.mkdir({canary!r} + 'x')",
        "os.mkfifo({canary!r} + 'x')",
        "open('x', 'w')",
        "os.memfd_create('x')",
    ),
    "writes outside": outside("open({canary!r}, 'w').write('x')"),
    "reads": each(
        "open({secret!r}).read()",
        "os.listdir('/')",
        "open('/proc/self/environ').read()",
        "open('/dev/zero', 'rb').read(9)",
        "os.chdir('/')",
    ),
    "runs a neighbour": inside("exec(open({secret!r}).read(), globals())\nreturn softmax(logits, 1.0)"),
    "terminals": each("fcntl.ioctl(0, 0x5412, b'x')", "os.open('/dev/tty', os.O_RDWR)"),
    "connections": each("import socket; socket.socket()", "import socket; socket.socketpair()"),
}  # fmt: skip

CODE = {
    **OTHERS,
    # resources
    "64 GB": inside("np.ones(8 * 10**9)"),
    "memory by pieces": inside("a = []\nwhile True: a.append(bytearray(5 * 10**7))"),
    "memory by pieces outside": outside("a = []\nwhile True: a.append(bytearray(5 * 10**7))"),
    "a long string": inside("return 'x' * 10**10"),
    "endless recursion": inside("return softmax(logits, temperature)"),
    "recursion without a limit": inside(
        "sys.setrecursionlimit(10**9)\ndef f(): return f()\nreturn f()"
    ),
    "recursion in C": inside(
        "sys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(s): return repr(s)\nrepr(A())"
    ),
    "fork": inside("os.fork() == 0 and time.sleep(60)"),
    "fork outside": outside("while True: os.fork()"),
    "processes by number": calls("58", "56, 17, 0, 0, 0, 0", "435, 0, 88"),  # vfork, clone, clone3
    "threads": inside("threading.Thread(target=time.sleep, args=(60,)).start()"),
    "open files": inside("a = [open(os.devnull) for _ in range(10**6)]"),
    "pipes": inside("a = [os.pipe() for _ in range(10**6)]"),
    "100 MB back": inside("return np.ones(12_500_000)"),
    "tuples in tuples": inside("t = ()\nfor _ in range(5000): t = (t,)\nreturn t"),
    "a tuple of 100,000": inside("return (1.0,) * 100_000"),
    "a long error": inside("raise ValueError('x' * 10**8)"),
    "a long name of an error": inside("raise type('E' * 10**6, (Exception,), {})"),
    "an error whose text raises": inside(
        "class E(Exception):\n    __str__ = lambda s: 1 / 0\nraise E"
    ),
    "a chain of errors": inside(
        "e = ValueError()\nfor _ in range(10**5):\n    f = ValueError(); f.__cause__ = e; e = f\nraise e"
    ),
    "a helper called for ever": HEAD
    + "def softmax(z, T=1.0):\n    return z\ndef log_softmax(z, T=1.0):\n"
    "    from numpy_kd import softmax as s\n    while True: s(z, T)\n",
    # parsing
    "60,000 blank lines": "\n" * 60_000 + inside("return (") + "\n",
    "6,000 names at once": f"{', '.join(f'a{n}' for n in range(6000))} = {'0, ' * 6000}\n"
    + inside("return a0"),
    "nested signs": "x = " + "-" * 100_000 + "1\n" + inside(""),
    "nested brackets": "x = " + "(" * 5000 + ")" * 5000 + "\n" + inside(""),
    "a chain": "def softmax(z, T=1.0):\n    return z" + ".T" * 20_000 + "\n",
    "deep blocks": "".join(" " * n + "if 1:\n" for n in range(99)) + " " * 99 + "x = 1\n" + inside(""),
    "many statements": "x = 1\n" * 80_000 + inside(""),
    "many broken cells": "x = = 1\ny = 2\n" * 5000 + inside(""),
    "a long number": "x = 1" + "0" * 100_000 + "\n" + inside(""),
    "nested f-strings": "x = f'" + "{f\"" * 30 + "\n" + inside(""),
    "a null byte": "x = 1\0\n",
    "a coding of its own": "# coding: zlib\n" + inside(""),
    "coding idna": "# coding: idna\n" + "x" * 100_000 + "\n" + inside(""),
    "too much code": "x = 1\n" * 100_000,
    # the answers
    "imports the library": "import numpy_kd\n" + inside("return numpy_kd.softmax(logits, temperature)"),
    "imports a part of it": "from numpy_kd.probability import softmax as right\n"
    + inside("return right(logits, temperature)"),
    "imports it by force": inside(
        "sys.meta_path.clear(); sys.modules.pop('numpy_kd', None)\n"
        "sys.path += {places!r}\nimport numpy_kd.probability as p\nreturn p.softmax(logits)"
    ),
    "imports scipy": inside("sys.path += {places!r}\nfrom scipy.special import softmax as s\nreturn s(logits)"),
    "asks by another name": inside(
        f"{SAY.strip()}\nsay({{'kind': 'help', 'name': 'softmax', 'positional': [], 'named': {{}}, 'arrays': []}})"
    ),
    "looks for answers in memory": inside(
        "for found in gc.get_objects():\n"
        "    if isinstance(found, np.ndarray) and found.shape == logits.shape and found is not logits:\n"
        "        return found"
    ),
    "looks for answers in the stack": inside(
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    for key, value in [*frame.f_locals.items(), *frame.f_globals.items()]:\n"
        "        if key in ('expected', 'reference', 'right'): return value\n"
        "    frame = frame.f_back"
    ),
    "patched comparisons": "import numpy as np\nnp.allclose = np.isclose = np.array_equal = lambda *a, **k: True\n"
    "np.testing.assert_allclose = lambda *a, **k: None\n" + inside(""),
    "patched builtins": outside("import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.len = lambda x: 0"),
    "an array that equals everything": inside(
        "class Liar(np.ndarray):\n"
        "    __eq__ = __le__ = __ge__ = __lt__ = lambda s, o: np.bool_(True)\n"
        "    __abs__ = __sub__ = __rsub__ = lambda s, *o: np.zeros(s.shape)\n"
        "return logits.view(Liar)"
    ),
    "an object that equals everything": inside(
        "class Liar:\n"
        "    shape, dtype = logits.shape, logits.dtype\n"
        "    __eq__ = __lt__ = __le__ = lambda s, o: True\n"
        "    __array__ = lambda s, *a, **k: np.zeros(logits.shape)\n"
        "return Liar()"
    ),
    "objects": inside("return np.full(logits.shape, object())"),
    "a tuple that lies": inside("class T(tuple):\n    __len__ = lambda s: 1\nreturn T((1, 2))"),
    "a number that lies": inside("class F(float):\n    __eq__ = lambda s, o: True\nreturn F(1)"),
    "text": inside("return np.array([['pass'] * logits.shape[1]] * len(logits))"),
    "complex numbers": inside("return logits + 1j"),
    "NaN": inside("return logits * np.nan"),
    "the answer in the arguments": inside("logits[...] = 1 / logits.shape[1]\nreturn logits"),
    # early ends
    "os._exit": inside("os._exit(0)"),
    "os._exit outside": outside("os._exit(0)"),
    "SystemExit": inside("raise SystemExit(0)"),
    "KeyboardInterrupt": inside("raise KeyboardInterrupt"),
    "GeneratorExit": inside("raise GeneratorExit"),
    "abort": inside("os.abort()"),
    "a crash": inside("ctypes.string_at(0)"),
    "a crash outside": outside("ctypes.string_at(0)"),
    "closes everything": inside("os.closerange(0, 64)"),
    "at the end": inside("import atexit; atexit.register(print, 'pass'); sys.exit(0)"),
    "a trace": inside("sys.settrace(lambda *a: 1 / 0)\nsys.setprofile(lambda *a: None)"),
    "no memory for the answer": inside("resource.setrlimit(resource.RLIMIT_AS, (1, 1))"),
    # forged frames
    "forged answer": forged(ANSWER, "bytes(320)"),
    "forged verdict": forged({"kind": "pass", "points": 5, "arrays": []}),
    "forged ready": forged(READY),
    "forged ready outside": outside(f"{SAY}\nsay({READY!r})\nos._exit(0)"),
    "ready with lists": outside(f"{SAY}\nsay({READY | {'own': [[]], 'notes': 5, 'lost': [], 'sheet': []}!r})"),
    "ready with everything long": outside(
        f"{SAY}\nsay(dict({READY!r}, notes=['x' * 900] * 60, problem='y' * 5000))"
    ),
    "ready with strange text": outside(
        f"{SAY}\nsay(dict({READY!r}, notes=['\\x1b[31m=1+1\\r\\n# big', '\\ud800', '|a|b|'], own=[]))"
    ),
    "statement without a number": outside(f"{SAY}\nsay(dict(kind='statement', number=[], arrays=[]))"),
    "a statement far away": outside(
        f"{SAY}\nsay(dict(kind='statement', number=10**40, arrays=[]))\nos._exit(0)"
    ),
    "statements for ever": outside(
        f"{SAY}\nwhile True: say(dict(kind='statement', number=1, arrays=[]))"
    ),
    "a name that is a list": forged({"kind": "help", "name": [], "positional": [], "named": {}, "arrays": []}),
    "words that are a list": forged({"kind": "help", "name": "x", "positional": {}, "named": [], "arrays": []}),
    "a kind that is a list": forged({"kind": [], "arrays": []}),
    "an error that is a list": forged({"kind": "error", "error": [], "text": {}, "arrays": []}),
    "a shape with a nought": forged({"arrays": [{"dtype": "<f8", "shape": [1 << 22] * 7 + [0]}]}),
    "a shape with many noughts": forged(
        dict(ANSWER, arrays=[{"dtype": "<f8", "shape": [0, 1 << 19]}])
    ),
    "a negative length": forged({"arrays": [{"dtype": "<f8", "shape": [-1]}]}),
    "a length that is true": forged({"arrays": [{"dtype": "<f8", "shape": [True]}]}),
    "a length that is a float": forged({"arrays": [{"dtype": "<f8", "shape": [1e300]}]}),
    "9 dimensions": forged({"arrays": [{"dtype": "<f8", "shape": [1] * 9}]}),
    "objects in a frame": forged({"arrays": [{"dtype": "|O", "shape": [1]}]}, "bytes(8)"),
    "10 GB": forged({"arrays": [{"dtype": "<f8", "shape": [1 << 30]}]}),
    "a header of 4 GB": inside(f"{SAY.strip()}\n[os.write(fd, b'\\xff' * 4) for fd in (3, 4)]"),
    "a header that is not JSON": forged("b'oops'"),
    "a header 30,000 deep": forged("b'[' * 30000 + b']' * 30000"),
    "a number without an end": forged("b'1' * 60000"),
    "garbage": inside(f"{SAY.strip()}\nsay(b'\\xff' * 5000)"),
    "megabytes of answers": inside(
        f"{SAY.strip()}\nwhile True: say({dict(ANSWER, arrays=[dict(F8, shape=[500_000])])!r}, bytes(4_000_000))"
    ),
    "an empty value": forged(dict(ANSWER, value={})),
    "a generator back": forged(dict(ANSWER, value={"rng": 10**300})),
    "tuples 60 deep": forged(
        'b\'{"kind":"answer","arrays":[],"after":{"tuple":[]},"value":\' + b\'{"tuple":[\' * 60 '
        "+ b']}' * 60 + b'}'"
    ),
    "the program's own functions replaced": inside(
        "frame = sys._getframe()\n"
        "while frame.f_back: frame = frame.f_back\n"
        "frame.f_globals['encode'] = lambda *a: [1]\nframe.f_globals['pack'] = lambda *a: b'\\0' * 9"
    ),
    "json replaced": outside("import json\njson.dumps = lambda *a, **k: '{}'\njson.loads = lambda *a: 1"),
    "numpy replaced": outside("np.ascontiguousarray = np.asarray = lambda *a, **k: 1 / 0"),
    "a hook on imports": outside("sys.meta_path.insert(0, object())\nimport builtins\nbuiltins.__import__ = None"),
    "builtins taken away": outside("import builtins\nbuiltins.isinstance = builtins.type = None"),
    "modules taken away": outside("sys.modules.clear()"),
    # the process that asks, from within it
    "the notebook told otherwise": outside(
        "notebook = next(o for o in gc.get_objects() if type(o).__name__ == 'Notebook')\n"
        "notebook.left = notebook.header['statement'] = 1e9\n"
        "type(notebook).found = lambda s: {k: {w: list(s.wanted) for w in s.wanted} for k in ('own', 'checked', 'lost')}\n"
        "type(notebook).answer = lambda s, *a: ({'kind': 'pass', 'points': 5}, [])"
    ),
    "the library by the stack": inside(
        "frame = sys._getframe()\n"
        "while frame and not hasattr(frame.f_locals.get('self'), 'ask'): frame = frame.f_back\n"
        "return frame.f_locals['self'].ask('softmax', (logits, temperature), {})"
    ),
    "the library kept for later": "import numpy_kd as kd\nkept = kd.softmax\n"
    + inside("try: return kept(logits, temperature)\nexcept ValueError: pass"),
    "the library's own kind": outside(
        "import numpy_kd\ntype(numpy_kd.softmax).__call__ = lambda s, *a: full_marks(*a)\nsoftmax = numpy_kd.softmax"
    ),
    "odd questions to the library": outside(
        "import numpy_kd as kd\n"
        "odd = [None, 'x' * 999, (), True, 10**18, float('nan'), np.zeros((0, 0)), np.full((3, 3), np.nan),\n"
        "       np.random.default_rng(1), object(), np.array('x'), '\\x1b[31m\\ud800', (1,) * 5000]\n"
        "for name in ('softmax', 'one_hot', 'linear_backward', 'hinton_loss', 'nearest_neighbours', 'check', 'x' * 5000):\n"
        "    for o in odd:\n"
        "        for words in ({}, {'axis': o, 'x' * 3000: o, '': o}):\n"
        "            for n in range(6):\n"
        "                try: getattr(kd, name)(*[o] * n, **words)\n"
        "                except Exception: pass"
    ),
    "modules replaced": outside(
        "import typing, functools, itertools, traceback, types, ast, math, io\n"
        "for module in (typing, functools, itertools, traceback, types, ast, math, struct, io, os, time, signal):\n"
        "    for name in list(vars(module)):\n"
        "        if name[0] != '_': setattr(module, name, None)\n"
        "raise ValueError"
    ),
    "functions of numpy replaced": outside(
        "for name in ('exp', 'max', 'ndim', 'prod', 'frombuffer', 'empty', 'ndarray', 'generic'):\n"
        "    setattr(np, name, lambda *a, **k: np.zeros(()))"
    ),
    "hooks": outside(
        "import atexit, weakref\natexit.register(lambda: [os.write(fd, b'x' * 99) for fd in range(3, 9)])\n"
        "threading.excepthook = sys.excepthook = sys.unraisablehook = lambda *a: os._exit(0)\n"
        "gc.callbacks.append(lambda *a: 1 / 0)\nsys.addaudithook(lambda *a: 1 / 0)"
    ),
    "signals held back": outside("signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n" + SWALLOW),
    "a recursion limit of 40": outside("sys.setrecursionlimit(40)"),
    "codecs": outside(
        "import codecs\nfor name in ('strict', 'replace'): codecs.register_error(name, lambda e: ('x' * 10**9, 0))\n"
        "raise ValueError('\\ud800')"
    ),
    "ends when it is deleted": inside("class D:\n    __del__ = lambda s: os._exit(0)\nD()"),
    "ends when it is looked at": outside(
        "class A:\n    __getattribute__ = lambda s, n: os._exit(0)\n    __call__ = lambda s, *a: 1\nsoftmax = A()"
    ),
    "has every attribute": outside(
        "class A:\n    __getattr__ = __call__ = lambda s, *a: A()\n    __iter__ = lambda s: iter([A()])\nsoftmax = A()"
    ),
    "wraps itself": outside(
        "import functools\nsoftmax.__wrapped__ = softmax\nfor _ in range(10**5): softmax = functools.partial(softmax)"
    ),
    "code within code": outside(
        "c = softmax.__code__\nfor _ in range(20_000): c = c.replace(co_consts=(c,))\nsoftmax.__code__ = c"
    ),
    "a namespace of its own": outside("vars(sys.modules['__main__']).clear()"),
    "a million names": outside("globals().update({f'a{n}': n for n in range(10**6)})"),
    "an error whose class has no name": outside(
        "class M(type):\n    __name__ = property(lambda s: 1 / 0)\nclass R(Exception, metaclass=M): pass\nraise R"
    ),
    "an error as markup": inside(
        "raise ValueError('</pre><script>x</script>\\r\\n# 5 of 5 points\\u2028softmax: 5 of 5\\x85\\x1b[2J=cmd()\\n```')"
    ),
    "an array function that lies": inside(
        "class L(np.ndarray):\n    __array_function__ = lambda s, *a: np.True_\n"
        "    __array_ufunc__ = lambda s, *a, **k: np.zeros(s.shape)\n    nbytes = 0\n    tobytes = lambda s, *a: b''\n"
        "return logits.view(L)"
    ),
    "an array that is nowhere": inside(
        "class L(float):\n    __array_interface__ = {'shape': (5, 8), 'typestr': '<f8', 'data': (8, False), 'version': 3}\n"
        "return L(1)"
    ),
    "rows beyond the end": inside("return np.lib.stride_tricks.as_strided(logits, logits.shape, (1 << 30, 1 << 30))"),
    "a tuple without an end": inside(
        "class T(tuple):\n    def __iter__(s):\n        while True: yield 1.0\nreturn T((1.0,))"
    ),
    "a tuple within itself": inside("class T(tuple):\n    __iter__ = lambda s: iter((s,))\nreturn T((1.0,))"),
    "a key twice": forged(
        "b'{\"arrays\":[],\"arrays\":[{\"dtype\":\"<f8\",\"shape\":[5,8]}],\"kind\":\"answer\",\"value\":{\"array\":0},\"after\":{\"tuple\":[]}}'",
        "bytes(320)",
    ),
    "a seed of 4,000 digits": forged("b'{\"kind\":\"answer\",\"arrays\":[],\"after\":{\"tuple\":[]},\"value\":{\"rng\":' + b'9' * 4000 + b'}}'"),
    "2,000 arrays of nothing": forged(
        "b'{\"kind\":\"answer\",\"value\":{\"array\":0},\"after\":{\"tuple\":[]},\"arrays\":[' + b','.join([b'{\"dtype\":\"<f8\",\"shape\":[0]}'] * 2000) + b']}'"
    ),
    "imports that do things": "import antigravity, this, test.regrtest, unittest.__main__, json.tool, readline, curses, pty\n"
    "import numpy.f2py.__main__, numpy.conftest, site, sitecustomize, multiprocessing.resource_tracker\n" + inside(""),
    "4,000 imports": "".join(f"import numpy.x{n}, os.y{n}\n" for n in range(2000)) + inside(""),
    "an import of 100,000 parts": "import numpy" + ".a" * 100_000 + "\n" + inside(""),
    "spaces before what is no magic": " " * 200_000 + "x !\n" + "a " * 50_000 + "!\n" + inside(""),
    "20,000 elifs": "if 0: pass\n" + "elif 0: pass\n" * 20_000 + inside(""),
    "20,000 decorators": "@str\n" * 20_000 + "def softmax(z, T=1.0):\n    return z\n",
    "punycode": "# coding: punycode\n" + "a" * 3000 + "-" + "z" * 200_000 + "\n" + inside(""),
    "escapes that are code": "# coding: unicode_escape\n\\x64ef softmax(z, T=1.0):\\n    return z\n",
    "linecache poisoned": outside("import linecache\nlinecache.cache.update(x=1)\nlinecache.getline = None\n1 / 0"),
}  # fmt: skip


def as_notebook(*cells, **more) -> str:
    """A notebook of code cells."""
    cells = [{"cell_type": "code", "source": source, "outputs": []} for source in cells]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, **more})


def _sparse(path):
    with path.open("wb") as file:
        file.truncate(100_000_000)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))


def _closed(path):
    path.write_text("x = 1")
    path.chmod(0)


GOOD = "def softmax(z, T=1.0):\n    e = np.exp(z / T - (z / T).max(-1, keepdims=True))\n    return e / e.sum(-1, keepdims=True)\n"
FILES = {
    "truncated.ipynb": as_notebook(GOOD)[:-40],
    "empty.ipynb": "",
    "list.ipynb": "[1, 2]",
    "number.ipynb": "1e999",
    "cells are a dict.ipynb": '{"cells": {"a": 1}}',
    "cells are odd.ipynb": '{"cells": [null, 1, [], {}, {"cell_type": [], "source": {}}]}',
    "worksheets are odd.ipynb": '{"worksheets": [1, {"cells": 2}, {"cells": [3]}]}',
    "metadata are odd.ipynb": as_notebook("x = 1", metadata={"numpy_kd": {"sheet": ["ex01"]}}),
    "a sheet that is none.ipynb": as_notebook("x = 1", metadata={"numpy_kd": {"sheet": "ex99"}}),
    "nested.ipynb": "[" * 200_000,
    "nested objects.ipynb": '{"a":' * 100_000,
    "a long number.ipynb": "1" * 1_000_000,
    "many cells.ipynb": as_notebook(*["x = 1"] * 20_000),
    "surrogates.ipynb": as_notebook("x = '\ud800'\n\ud800"),
    "binary.py": b"\x80\x81\x00\x01" * 1000,
    "utf-16 without an end.py": b"\xff\xfe" + b"x\0=\0" * 100 + b"1",
    "large.ipynb": _sparse,
    "link.py": lambda path: path.symlink_to("/etc/passwd"),
    "link to itself.py": lambda path: path.symlink_to(path),
    "link to a folder.ipynb": lambda path: path.symlink_to("/etc"),
    "pipe.py": os.mkfifo,
    "socket.py": _socket,
    "folder.ipynb": lambda path: path.mkdir(),
    "closed.py": _closed,
    "300,000 cells.ipynb": '{"cells": [' + "{}," * 300_000 + "{}]}",
    "a long key.ipynb": '{"' + "k" * 5_000_000 + '": 1, "cells": []}',
    "keys twice.ipynb": '{"cells": [{"source": "x = 1"}], "cells": 3, "metadata": {}, "metadata": []}',
    "numbers that are none.ipynb": '{"cells": [NaN, -Infinity, 1e999], "nbformat": NaN}',
    "a formula for a sheet.ipynb": as_notebook("x = 1", metadata={"numpy_kd": {"sheet": "=1+1"}}),
    "19 MB of line ends.py": "\n" * 19_000_000,
    "19 MB of brackets.ipynb": '{"cells":' + "[" * 19_000_000,
    "device.py": lambda path: os.geteuid() or os.mknod(path, 0o20666, os.makedev(1, 5)),
    "a;=1+1;.py": "x = 1",
    "\u00a0=1+1.py": "x = 1",
    "<script>alert(1).py": "x = 1",
    "# 5 of 5 points.py": "x = 1",
    "\u200bann.py": "x = 1",
    "\u2066ann\u2069.py": "x = 1",
    "\x08\x08\r\x85\u2028.py": "x = 1",
    "--help.py": "x = 1",
    "*.py": "x = 1",
    "z\u0300" * 60 + ".py": "x = 1",
    "Copy of ex01-Copy2 (3).PY": "x = 1",
    "ex" + "0" * 200 + ".py": "x = 1",
    "-rf.py": "x = 1",
    "=1+1.py": "x = 1",
    "@SUM(A1).ipynb": "{",
    "a\nb,\"c\";'d'.py": "x = 1",
    "\x1b[31mred\x07.py": "x = 1",
    "\u202egnp.py": "x = 1",
    "a..\\..\\b & c.ipynb": "{",
    "x" * 240 + ".ipynb": "{",
    "\N{HANGUL SYLLABLE GIM}" * 80 + ".py": "x = 1",
    b"not utf-8 \xff\xfe.py": "x = 1",
    "copy--" * 35 + ".py": "x = 1",
    "...py": "x = 1",
    "ex01-Copy1.py": "x = 1",
    "same.py": "x = 1",
    "SAME.py": "x = 1",
    "same.ipynb": "{",
    "e\u0301.py": "x = 1",
    "\u00e9.py": "x = 1",
    "numpy.py": "raise SystemExit('numpy was replaced')",
    "json.py": "raise SystemExit('json was replaced')",
    "sitecustomize.py": "raise SystemExit('python was replaced')",
}

"""A filter on system calls (Linux): what computing needs is allowed, and nothing else.

The kernel runs a tiny program before each call of the process. Memory, clocks, reading and writing
what is already open, and the end: these pass. Everything else fails with "operation not
permitted": no file can be opened, not even to read; no process, thread, signal to others, socket,
shared memory, terminal or setting can be reached. It cannot be taken off again.
Part of the child's program, so only the standard library; see seccomp(2) for the program's form.
"""

import ctypes
import errno
import os
import struct
import sys

NO_NEW_PRIVILEGES, SET_MODE_FILTER, ALL_THREADS = 38, 1, 1
ARCHITECTURES = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}  # and seccomp(2)
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM

# name, number on x86_64, number on aarch64 (- where there is none)
ALLOWED = """
    read 0 63, readv 19 65, write 1 64, writev 20 66, close 3 57, lseek 8 62, fstat 5 80
    brk 12 214, mmap 9 222, munmap 11 215, mremap 25 216, mprotect 10 226, madvise 28 233
    clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169, time 201 -
    nanosleep 35 101, clock_nanosleep 230 115, setitimer 38 103, getitimer 36 102
    times 100 153, getrusage 98 165, getrandom 318 278, futex 202 98, sched_yield 24 124
    rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, sigaltstack 131 132
    restart_syscall 219 128, getpid 39 172, gettid 186 178, getuid 102 174, geteuid 107 175
    getgid 104 176, getegid 108 177, uname 63 160, exit 60 93, exit_group 231 94
"""


def lock() -> bool:
    """Install the filter for this process; returns whether it is in force."""
    machine = os.uname().machine if sys.platform == "linux" else ""
    if machine not in ARCHITECTURES or struct.calcsize("P") != 8:
        return False
    code = b"".join(struct.pack("HBBI", *line) for line in program(machine))
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    library, seccomp = ctypes.CDLL(None), ARCHITECTURES[machine][1]
    library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return library.syscall(seccomp, SET_MODE_FILTER, ALL_THREADS, ctypes.c_char_p(header)) == 0


def program(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter as (operation, jump if true, jump if false, operand), one for each line."""
    which = list(ARCHITECTURES).index(machine)
    lines = [(LOAD, 0, 0, 4), (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine][0])]
    lines += [(RETURN, 0, 0, REFUSE), (LOAD, 0, 0, 0)]
    for numbers in allowed().values():
        number = numbers[which]
        if number is not None:
            lines += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    return [*lines, (RETURN, 0, 0, REFUSE)]


def allowed() -> dict[str, tuple[int | None, ...]]:
    """The calls that pass, by name: their numbers on either architecture."""
    entries = (entry.split() for entry in ALLOWED.strip().replace("\n", ",").split(","))
    return {
        name: tuple(None if number == "-" else int(number) for number in numbers)
        for name, *numbers in entries
    }

"""A filter on system calls (Linux): no signals to others, no network, no change to any file.

The kernel runs a tiny program before each call of the process: numbers on the list fail with
"operation not permitted", and so does opening a file to write. It cannot be taken off again.
Part of the child's program, so only the standard library; see seccomp(2) for the program's form.
"""

import ctypes
import errno
import os
import struct
import sys

NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2  # of prctl(2)
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
LOAD, JUMP_EQUAL, JUMP_GREATER, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
WRITING = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC

# name, number on x86_64, number on aarch64 (0 where there is none)
REFUSED = """
    kill 62 129, tkill 200 130, tgkill 234 131, rt_sigqueueinfo 129 138
    rt_tgsigqueueinfo 297 240, pidfd_send_signal 424 424, pidfd_open 434 434, pidfd_getfd 438 438
    ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440
    perf_event_open 298 241, bpf 321 280, keyctl 250 219, io_uring_setup 425 425
    setpriority 141 140, sched_setaffinity 203 122, socket 41 198, socketpair 53 199
    creat 85 0, openat2 437 437, truncate 76 45, ftruncate 77 46, fallocate 285 47
    rename 82 0, renameat 264 38, renameat2 316 276, unlink 87 0, unlinkat 263 35
    link 86 0, linkat 265 37, symlink 88 0, symlinkat 266 36, mknod 133 0, mknodat 259 33
    mkdir 83 0, mkdirat 258 34, rmdir 84 0, mount 165 40
    chmod 90 0, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452
    chown 92 0, fchown 93 55, lchown 94 0, fchownat 260 54
    utime 132 0, utimes 235 0, futimesat 261 0, utimensat 280 88
    setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7
    removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16
"""
WITH_FLAGS = {"open": (2, 0, 1), "openat": (257, 56, 2)}  # and which argument the flags are
PRLIMIT = (302, 261)  # only of the process itself


def lock() -> bool:
    """Install the filter for this process; returns whether it is in force."""
    machine = os.uname().machine if sys.platform == "linux" else ""
    if machine not in ARCHITECTURES:
        return False
    code = b"".join(struct.pack("HBBI", *line) for line in program(machine))
    buffer = ctypes.create_string_buffer(code)
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None).prctl
    prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return prctl(SET_SECCOMP, FILTER, ctypes.c_char_p(header), 0, 0) == 0


def program(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter as (operation, jump if true, jump if false, operand), one for each line."""
    which = list(ARCHITECTURES).index(machine)
    lines = [(LOAD, 0, 0, 4), (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]), (RETURN, 0, 0, REFUSE)]
    lines += [(LOAD, 0, 0, 0), (JUMP_GREATER, 0, 1, 0x40000000), (RETURN, 0, 0, REFUSE)]
    for entry in REFUSED.strip().replace("\n", ",").split(","):
        number = int(entry.split()[1 + which])
        if number:
            lines += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    for *numbers, position in WITH_FLAGS.values():
        if numbers[which]:
            lines += [(JUMP_EQUAL, 0, 4, numbers[which]), (LOAD, 0, 0, 16 + 8 * position)]
            lines += [(JUMP_SET, 0, 1, WRITING), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    lines += [(JUMP_EQUAL, 0, 3, PRLIMIT[which]), (LOAD, 0, 0, 16)]
    lines += [(JUMP_EQUAL, 1, 0, 0), (RETURN, 0, 0, REFUSE)]
    return [*lines, (RETURN, 0, 0, ALLOW)]

"""Which system calls a confined process may make, put into the kernel by libseccomp.

The list says what may be called; what it does not name answers as a kernel that has never heard of
it, for which every library knows another way. What no model needs, and who calls it means harm,
ends the process with SIGSYS, so that whoever started it knows.

libseccomp (https://github.com/seccomp/libseccomp) knows names, numbers and architectures; it is
part of every usual distribution, and called here through its C interface.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from inferry.priorities import LOW

_LIBRARY = "libseccomp.so.2"

_KILL = 0x80000000
_EPERM = 0x00050000 | errno.EPERM
_UNKNOWN = 0x00050000 | errno.ENOSYS
_ALLOW = 0x7FFF0000
_NOT_EQUAL, _EQUAL, _MASKED_EQUAL = 1, 4, 7
_OTHER_ARCHITECTURE = 2
_API_OF_KILLING = 3  # a process and not a thread, Linux 4.14

ALLOWED = """
    read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek close close_range
    dup dup2 dup3 pipe pipe2 eventfd eventfd2 sendfile copy_file_range
    access faccessat faccessat2 stat lstat fstat newfstatat fstatat64 statx statfs
    fstatfs readlink readlinkat getdents getdents64 getcwd
    mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat
    ftruncate fallocate fsync fdatasync sync_file_range fadvise64 readahead flock umask
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
    epoll_pwait2
    accept accept4 listen shutdown recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg getsockname
    getpeername getsockopt setsockopt
    mmap munmap mprotect mremap madvise brk msync mincore mlock munlock pkey_alloc pkey_free
    pkey_mprotect map_shadow_stack mbind get_mempolicy set_mempolicy
    futex futex_wait futex_wake futex_requeue futex_waitv set_robust_list rseq membarrier
    set_tid_address restart_syscall arch_prctl exit exit_group
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend
    sigaltstack pause alarm getitimer setitimer timer_create timer_settime timer_gettime
    timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times
    getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp
    getpgid getsid wait4 waitid getrusage getrlimit capget uname sysinfo getrandom getcpu
    sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max
    sched_get_priority_min
""".split()  # noqa: SIM905  as a list it fills a page

REFUSED = """
    fork vfork socketpair connect bind setrlimit tkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open
    pidfd_send_signal truncate creat chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat
    utime utimes utimensat futimesat setxattr lsetxattr fsetxattr removexattr lremovexattr
    fremovexattr ioprio_set sched_setscheduler sched_setparam sched_setattr
    memfd_create io_uring_setup io_uring_enter io_uring_register
""".split()  # noqa: SIM905  as a list it fills a page
"""What fails with EPERM: a second process, a connection, signals, and marks on files of others."""

DEADLY = """
    execve execveat ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp
    mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig fsmount fspick unshare
    setns bpf perf_event_open userfaultfd add_key request_key keyctl init_module finit_module
    delete_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl syslog
    settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname iopl ioperm
    open_by_handle_at name_to_handle_at setuid setgid setreuid setregid setresuid setresgid
    setfsuid setfsgid setgroups capset personality vhangup lookup_dcookie modify_ldt
""".split()  # noqa: SIM905  as a list it fills a page
"""What ends the process, as `socket` does where it leads to a network: nothing good calls it."""

_NETWORKS = (socket.AF_INET, socket.AF_INET6, 17, 40)  # 17: packets of the wire, 40: of machines
_LOCAL = (socket.AF_UNIX, 16)  # 16: netlink, by which libraries list the network's interfaces
_THREAD = 0x00010000  # CLONE_THREAD
_OPENED_EMPTY = os.O_ACCMODE | os.O_TRUNC

_REQUESTS = (0x5450, 0x5451, 0x5421, 0x541B, 0x5401, 0x5413)
"""Of `ioctl`: FIONCLEX, FIOCLEX, FIONBIO, FIONREAD, TCGETS, TIOCGWINSZ. TIOCSTI, say, types into
the terminal of whoever started the server."""

_COMMANDS = (*range(8), 36, 37, 38, 1030, 1031, 1032)
"""Of `fcntl`: descriptors, flags and locks. F_SETOWN and F_SETSIG make the kernel send signals."""

_OPTIONS = (3, 15, 16, 23, 0x53564D41)
"""Of `prctl`: PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_CAPBSET_READ, PR_SET_VMA."""


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    """What becomes of `call` where all of `when` holds of its arguments.

    The library prefers a rule without comparison to others of the same call, and takes one
    comparison for each argument: so the rules of a call have to exclude each other.
    """

    call: str
    action: int
    when: Sequence[_Comparison] = ()


def _equal(argument: int, value: int) -> _Comparison:
    return _Comparison(argument, _EQUAL, value, 0)


def _different(argument: int, value: int) -> _Comparison:
    return _Comparison(argument, _NOT_EQUAL, value, 0)


def _masked(argument: int, mask: int, value: int) -> _Comparison:
    return _Comparison(argument, _MASKED_EQUAL, mask, value)


def _rules(pid: int) -> Iterator[_Rule]:
    """Give all rules. pid: our own."""
    yield from (_Rule(call, _ALLOW) for call in ALLOWED)
    yield from (_Rule(call, _EPERM) for call in REFUSED)
    yield from (_Rule(call, _KILL) for call in DEADLY)
    # `clone3` is not named, since no filter sees its flags: the C library then takes `clone`.
    yield _Rule("clone", _ALLOW, [_masked(0, _THREAD, _THREAD)])
    yield _Rule("clone", _EPERM, [_masked(0, _THREAD, 0)])
    for call, argument, value in (
        *(("kill", 0, pid), ("tgkill", 0, pid), ("sched_setaffinity", 0, 0)),
        ("prlimit64", 2, 0),  # to look, not to set
    ):
        yield _Rule(call, _ALLOW, [_equal(argument, value)])
        yield _Rule(call, _EPERM, [_different(argument, value)])
    for call, argument, values in (
        *(("ioctl", 1, _REQUESTS), ("fcntl", 1, _COMMANDS), ("prctl", 0, _OPTIONS)),
    ):
        yield from (_Rule(call, _ALLOW, [_equal(argument, value)]) for value in values)
    # A thread may give way to all others for good, and change none of them.
    own = [_equal(0, os.PRIO_PROCESS), _equal(1, 0)]
    yield _Rule("setpriority", _ALLOW, [*own, _equal(2, LOW)])
    yield _Rule("setpriority", _EPERM, [*own, _different(2, LOW)])
    yield _Rule("setpriority", _EPERM, [_equal(0, os.PRIO_PROCESS), _different(1, 0)])
    yield _Rule("setpriority", _EPERM, [_different(0, os.PRIO_PROCESS)])
    yield from (_Rule("socket", _KILL, [_equal(0, family)]) for family in _NETWORKS)
    yield from (_Rule("socket", _EPERM, [_equal(0, family)]) for family in _LOCAL)
    # To open for reading and to empty is no writing to Landlock before Linux 6.2.
    for call, argument in (("open", 1), ("openat", 2)):
        for access, flag in product((0, 1, 2, 3), (0, os.O_TRUNC)):
            action = _EPERM if (access, flag) == (os.O_RDONLY, os.O_TRUNC) else _ALLOW
            yield _Rule(call, action, [_masked(argument, _OPENED_EMPTY, access | flag)])


def forbid_rings() -> None:
    """Have this thread, and what it starts from now on, open no io_uring; for good.

    A ring that is open when `restrict` is called would carry calls past it, and libuv opens one
    with its event loop. Raises `OSError` where it cannot be done.
    """
    _load(_ALLOW, [_Rule("io_uring_setup", _EPERM)])


def restrict() -> None:
    """Bind this thread, and what it starts from now on, to the lists; for good.

    Call it while there is one thread. Raises `OSError` where it cannot be done.
    """
    _load(_UNKNOWN, _rules(os.getpid()))


def _load(default: int, rules: Iterable[_Rule]) -> None:
    """Put a filter before every system call; of several the strictest answer counts."""
    library = _open()
    context = library.seccomp_init(default)
    if not context:
        raise OSError(errno.ENOMEM, "libseccomp has no memory for a filter")
    try:
        _check(library.seccomp_attr_set(context, _OTHER_ARCHITECTURE, _KILL))
        for rule in rules:
            number = library.seccomp_syscall_resolve_name(rule.call.encode())
            if number >= 0:  # else this machine, or this version of the library, does not have it
                array = (_Comparison * len(rule.when))(*rule.when)
                added = library.seccomp_rule_add_array(
                    context, rule.action, number, len(rule.when), array
                )
                _check(added)
        _check(library.seccomp_load(context))
    finally:
        library.seccomp_release(context)


def is_offered() -> bool:
    """Tell whether `restrict` can be expected to work here."""
    try:
        library = _open()
    except OSError:
        return False
    return bool(library.seccomp_api_get() >= _API_OF_KILLING)


def _open() -> ctypes.CDLL:
    """Load the library. Raises `OSError` with the name of what is missing."""
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "only Linux has seccomp")
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise OSError(errno.ENOENT, f"the library {_LIBRARY} is not installed") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.restype = None
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
    ]
    return library


def _check(result: int) -> None:
    """Raise what a function of the library answered, a negative number of `errno`."""
    if result < 0:
        raise OSError(-result, f"libseccomp: {os.strerror(-result)}")

/* A package's program that means harm: attack NAME [WHAT…]. It ends with 0 when it did it, with 1 when it was
   refused, and says why. Static, so that it runs where nothing else is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <sys/sysmacros.h>
#include <dirent.h>
#include <grp.h>
#include <sched.h>
#include <pthread.h>

static int said(long result) {
    if (result >= 0) return 0;
    fprintf(stderr, "refused: %s\n", strerror(errno));
    return 1;
}

static void *nothing(void *unused) { return unused; }

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "", *what = argc > 2 ? argv[2] : "";
    long number = atol(what);
#define IS(text) if (!strcmp(name, text))
    IS("answer") { printf("%s", what); return 0; }
    IS("read") { char byte; int file = open(what, O_RDONLY); return said(file < 0 ? -1 : read(file, &byte, 1)); }
    IS("list") return said(opendir(what) ? 0 : -1);
    IS("write") return said(open(what, O_WRONLY));
    IS("create") return said(open(what, O_WRONLY | O_CREAT, 0644));
    IS("create by openat2") { struct { unsigned long long flags, mode, resolve; } how = {O_WRONLY | O_CREAT, 0644, 0};
        return said(syscall(437, AT_FDCWD, what, &how, sizeof how)); }
    IS("nameless file") return said(open(what, O_TMPFILE | O_RDWR, 0600));
    IS("truncate") return said(truncate(what, 0));
    IS("remove") return said(unlink(what));
    IS("rename") return said(rename(what, argv[3]));
    IS("folder") return said(mkdir(what, 0755));
    IS("symlink") return said(symlink("/etc/passwd", what));
    IS("hard link") return said(link(what, argv[3]));
    IS("fifo") return said(mkfifo(what, 0600));
    IS("device") return said(mknod(what, S_IFCHR | 0600, makedev(1, 1)));
    IS("mode") { struct stat now; return said(stat(what, &now) ? -1 : chmod(what, now.st_mode & 07777)); }
    IS("times") return said(utimensat(AT_FDCWD, what, NULL, 0));
    IS("execute") { char *none[] = {(char *)what, NULL}; return said(execve(what, none, none)); }
    IS("internet") {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(number), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int end = socket(AF_INET, SOCK_STREAM, 0);
        return said(end < 0 ? -1 : connect(end, (void *)&to, sizeof to));
    }
    IS("datagram") return said(socket(AF_INET, SOCK_DGRAM, 0));
    IS("netlink") return said(socket(AF_NETLINK, SOCK_RAW, 0));
    IS("packets") return said(socket(AF_PACKET, SOCK_RAW, 0));
    IS("unix") {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        strncpy(to.sun_path, what, sizeof to.sun_path - 1);
        int end = socket(AF_UNIX, SOCK_STREAM, 0);
        return said(end < 0 ? -1 : connect(end, (void *)&to, sizeof to));
    }
    IS("abstract") {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        strncpy(to.sun_path + 1, what, sizeof to.sun_path - 2);
        int end = socket(AF_UNIX, SOCK_STREAM, 0);
        return said(end < 0 ? -1 : connect(end, (void *)&to, sizeof(sa_family_t) + 1 + strlen(what)));
    }
    IS("socket pair") { int ends[2]; return said(socketpair(AF_UNIX, SOCK_STREAM, 0, ends)); }
    IS("fork") return said(fork());
    IS("vfork") { pid_t child = vfork(); if (!child) _exit(0); return said(child); }
    IS("clone") return said(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    IS("clone3") { unsigned long long how[11] = {0, 0, 0, 0, SIGCHLD}; return said(syscall(435, how, 64)); }
    IS("thread") { pthread_t one; errno = pthread_create(&one, NULL, nothing, NULL); return said(errno ? -1 : 0); }
    IS("kill") return said(kill(number, 0));
    IS("kill all") return said(kill(-1, 0));
    IS("tgkill") return said(syscall(SYS_tgkill, number, number, 0));
    IS("queue a signal") { siginfo_t info = {.si_code = -1}; return said(syscall(SYS_rt_sigqueueinfo, number, 0, &info)); }
    IS("own a file's signals") return said(fcntl(0, F_SETOWN, number));
    IS("pidfd") return said(syscall(434, number, 0));
    IS("ptrace") return said(ptrace(PTRACE_ATTACH, number, 0, 0));
    IS("be traced") return said(ptrace(PTRACE_TRACEME, 0, 0, 0));
    IS("memory of another") { char byte; struct iovec here = {&byte, 1}, there = {(void *)main, 1};
        return said(process_vm_readv(number, &here, 1, &there, 1, 0)); }
    IS("limits of another") { struct rlimit now; return said(prlimit(number, RLIMIT_CORE, NULL, &now)); }
    IS("priority of another") return said(setpriority(PRIO_PROCESS, number, 19));
    IS("session of another") return said(getsid(number));
    IS("handles") {
        for (int handle = 3; handle < 4096; handle++)
            if (fcntl(handle, F_GETFD) >= 0) { fprintf(stderr, "%d is open\n", handle); return 0; }
        return said(-1);
    }
    IS("setuid") return said(setuid(0) || setreuid(0, 0) || setgid(0) ? -1L : (long)getuid());
    IS("groups") return said(setgroups(0, NULL));
    IS("capabilities") { unsigned header[] = {0x20080522, 0}, none[6]; memset(none, 255, sizeof none);
        return said(syscall(SYS_capset, header, none)); }
    IS("privileges") return said(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) ? -1 : 0);
    IS("outlive") return said(prctl(PR_SET_PDEATHSIG, 0));
    IS("dump") return said(prctl(PR_SET_DUMPABLE, 1));
    IS("unshare") return said(unshare(CLONE_NEWUSER));
    IS("setns") return said(setns(0, 0));
    IS("mount") { int done = mount("none", "/", "no such system", 0, NULL); return said(errno == ENODEV ? 0 : done); }
    IS("open a tree") return said(syscall(428, AT_FDCWD, "/", 0));
    IS("chroot") return said(chroot("/"));
    IS("work elsewhere") return said(chdir("/"));
    IS("bpf") return said(syscall(SYS_bpf, 0, NULL, 0));
    IS("perf") return said(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
    IS("io_uring") { char room[256] = {0}; return said(syscall(425, 1, room)); }
    IS("keys") return said(syscall(SYS_add_key, "user", "x", "x", 1, -2));
    IS("key control") return said(syscall(SYS_keyctl, 0, -3, 0));
    IS("memory file") return said(memfd_create("x", 0));
    IS("shared memory") return said(shmget(IPC_PRIVATE, 4096, 0600 | IPC_CREAT));
    IS("message queue") return said(syscall(SYS_mq_open, "x", O_CREAT | O_RDWR, 0600, NULL));
    IS("userfaultfd") return said(syscall(SYS_userfaultfd, 1));
    IS("watch") return said(syscall(SYS_inotify_init1, 0));
    IS("terminal") { char letter = 'x'; return said(ioctl(0, TIOCSTI, &letter)); }
    IS("host name") { char name[65] = ""; gethostname(name, 64); return said(sethostname(name, strlen(name))); }
    IS("personality") return said(syscall(SYS_personality, 0x0040000));
    IS("another filter") return said(syscall(SYS_seccomp, 0, 0, NULL));
    IS("more memory") { struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY}; return said(setrlimit(RLIMIT_AS, &more)); }
    IS("memory") { for (;;) { char *more = malloc(1 << 24); if (!more) return said(-1); memset(more, 1, 1 << 24); } }
    IS("mapped memory") { for (;;) if (mmap(NULL, 1 << 28, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
        -1, 0) == MAP_FAILED) return said(-1); }
    IS("spin") for (;;);
    IS("sleep") for (;;) { syscall(SYS_futex, &(int){0}, 0, 0, NULL, NULL, 0); }
    IS("hidden") { close(1); close(2); for (;;); }
    IS("output") for (;;) if (write(1, what, strlen(what)) < 0) return said(-1);
    IS("complaints") for (;;) if (write(2, what, strlen(what)) < 0) return said(-1);
    IS("crash") { signal(SIGSEGV, SIG_DFL); *(volatile int *)0 = 0; }
#ifdef __x86_64__
    IS("x32") return said(syscall(0x40000000 + 39));
    IS("32 bit") { long got; __asm__ volatile("int $0x80" : "=a"(got) : "a"(20)); return said(got < 0 ? -1 : got); }
#endif
    fprintf(stderr, "no such attack: %s\n", name);
    return 0;
}

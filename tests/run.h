/* run: a command started as a process of its own, with what it printed. */
#ifndef TMKMS_TESTS_RUN_H
#define TMKMS_TESTS_RUN_H

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct run_result {
    int exit_code; /* -1: ended by a signal */
    char out[65536];
    char err[65536];
};

static inline void run_read_back(int fd, char *text, size_t cap)
{
    ssize_t n = pread(fd, text, cap - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    close(fd);
}

/* argv[0] is the program's path; ended by NULL. cwd: NULL keeps the current folder. */
static inline void run_in(struct run_result *ret, const char *cwd, const char *const *argv)
{
    int out = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    int err = open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    assert_true(out >= 0 && err >= 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (cwd != NULL && chdir(cwd) != 0)
            _exit(126);
        dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    ret->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    run_read_back(out, ret->out, sizeof ret->out);
    run_read_back(err, ret->err, sizeof ret->err);
}

/* RUN(&result, "softsign", "keygen", path): tmkms with these arguments. */
#define RUN(ret, ...) run_in(ret, NULL, (const char *const[]){TMKMS_BINARY, __VA_ARGS__, NULL})
#define RUN_IN(ret, cwd, ...)                                                                      \
    run_in(ret, cwd, (const char *const[]){TMKMS_BINARY, __VA_ARGS__, NULL})

static inline void assert_contains(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' is not in:\n%s", part, text);
}

#endif

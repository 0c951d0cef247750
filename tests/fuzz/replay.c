/* replay: runs a fuzz target over its corpus without a fuzzing engine, so that an ordinary build
 * (gcc, no sanitizer) does what a short fuzz run would do first. Usage: replay_NAME CORPUS_FOLDER
 *
 * Each file is fed as it is, cut at every length, and with single bytes changed. Files longer than
 * POSITIONS_MAX bytes are sampled at evenly spaced positions, so a run is the same every time.
 * Every input lies in a heap block of exactly its size, so that AddressSanitizer sees a read past
 * its end. An input that crashes the target or takes longer than INPUT_SECONDS ends the program and
 * is named. */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FILE_MAX = 2 * 1024 * 1024,
    POSITIONS_MAX = 512,
    INPUT_SECONDS = 10,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char current_input[600]; /* what runs now, for the report of a crash */
static unsigned long inputs_n;

/* Makes AddressSanitizer end by SIGABRT, which report_crash sees. Without it nobody calls this. */
const char *__asan_default_options(void)
{
    return "abort_on_error=1";
}

static void report_crash(int sig)
{
    static const char hang[] = "hangs on ";
    static const char crash[] = "crashes on ";

    const char *what = sig == SIGALRM ? hang : crash;
    if (write(STDERR_FILENO, what, strlen(what)) < 0 ||
        write(STDERR_FILENO, current_input, strlen(current_input)) < 0 ||
        write(STDERR_FILENO, "\n", 1) < 0)
        _exit(2);
    signal(sig, SIG_DFL);
    raise(sig);
}

static void *copy_exactly(const uint8_t *data, size_t n)
{
    void *copy = malloc(n > 0 ? n : 1);
    if (copy == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    if (n > 0)
        memcpy(copy, data, n);
    return copy;
}

static void run_input(const uint8_t *data, size_t n)
{
    alarm(INPUT_SECONDS);
    LLVMFuzzerTestOneInput(data, n);
    alarm(0);
    inputs_n++;
}

static void run_whole(const char *name, const uint8_t *data, size_t n)
{
    snprintf(current_input, sizeof current_input, "%s", name);
    uint8_t *copy = copy_exactly(data, n);
    run_input(copy, n);
    free(copy);
}

static void run_cut(const char *name, const uint8_t *data, size_t length)
{
    snprintf(current_input, sizeof current_input, "%s cut to %zu bytes", name, length);
    uint8_t *copy = copy_exactly(data, length);
    run_input(copy, length);
    free(copy);
}

static void run_changed(const char *name, const uint8_t *data, size_t n, size_t at)
{
    const uint8_t values[] = {(uint8_t)(data[at] ^ 0x01), (uint8_t)(data[at] ^ 0x80), 0x00, 0xff};

    uint8_t *copy = copy_exactly(data, n);
    for (size_t i = 0; i < sizeof values; i++) {
        snprintf(current_input, sizeof current_input, "%s with byte %zu set to 0x%02x", name, at,
            (unsigned)values[i]);
        copy[at] = values[i];
        run_input(copy, n);
        copy[at] = data[at];
    }
    free(copy);
}

static void run_file(const char *name, const uint8_t *data, size_t n)
{
    size_t step = n / POSITIONS_MAX + 1;

    run_whole(name, data, n);
    for (size_t at = 0; at < n; at += step) {
        run_cut(name, data, at);
        run_changed(name, data, n, at);
    }
}

static size_t read_file(const char *path, uint8_t *buf)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        exit(2);
    }
    size_t n = fread(buf, 1, FILE_MAX + 1, f);
    if (ferror(f) || n > FILE_MAX) {
        fprintf(stderr, "%s: cannot be read, or longer than %d bytes\n", path, FILE_MAX);
        exit(2);
    }
    fclose(f);
    return n;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
    static uint8_t buf[FILE_MAX + 1];

    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
        return 2;
    }
    const int signals[] = {SIGALRM, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        signal(signals[i], report_crash);
    struct dirent **entries = NULL;
    int entries_n = scandir(argv[1], &entries, is_visible, alphasort);
    if (entries_n <= 0) {
        fprintf(stderr, "%s: no corpus files\n", argv[1]);
        return 2;
    }
    for (int i = 0; i < entries_n; i++) {
        char path[4096];
        if ((size_t)snprintf(path, sizeof path, "%s/%s", argv[1], entries[i]->d_name) >=
            sizeof path)
            return 2;
        run_file(entries[i]->d_name, buf, read_file(path, buf));
        free(entries[i]);
    }
    free(entries);
    printf("%d files, %lu inputs\n", entries_n, inputs_n);
    return 0;
}

/* fake_rig: fake_machines.py under the names of the programs that it plays, in a folder of the test's own. */
#ifndef TMKMS_TESTS_PARENT_FAKE_RIG_H
#define TMKMS_TESTS_PARENT_FAKE_RIG_H

#include <sys/stat.h>

#include "keeper_rig.h"
#include "nitro/golden_image.h"
#include "run.h"

static char fakes[64], image_path[100];

static inline void fake_write(const char *name, const char *text, mode_t mode)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", fakes, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0 && fd_write_exact(fd, text, strlen(text)));
    close(fd);
}

/* What the file of the folder holds; "": there is none. */
static inline const char *fake_read(const char *name)
{
    static char text[16384];
    char path[160];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", fakes, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd < 0 || fd_read_all(fd, text, sizeof text - 1, &n, NULL));
    fd_close(&fd);
    text[n] = '\0';
    return text;
}

static inline void fake_program(const char *name)
{
    char script[400];
    snprintf(script, sizeof script,
        "#!/bin/sh\nexec python3 -E -S " VECTORS_DIR "/../parent/fake_machines.py %s %s \"$@\"\n",
        name, fakes);
    fake_write(name, script, 0700);
}

static inline void fake_setup(void)
{
    char path[100];
    rig_make_run_dir();
    snprintf(fakes, sizeof fakes, "/tmp/tmkms-test-fakes-XXXXXX");
    assert_non_null(mkdtemp(fakes));
    fake_program("qemu");
    fake_program("vhost");
    fake_program("nitro-cli");
    snprintf(path, sizeof path, "%s/qemu", fakes);
    setenv("TMKMS_QEMU", path, 1);
    snprintf(path, sizeof path, "%s/vhost", fakes);
    setenv("TMKMS_VHOST_VSOCK", path, 1);
    uint8_t golden[4096];
    struct bytes image = image_golden(golden, sizeof golden, 1);
    snprintf(image_path, sizeof image_path, "%s/good.eif", fakes);
    int fd = open(image_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && fd_write_exact(fd, image.p, image.n));
    close(fd);
}

static inline void fake_teardown(void)
{
    rig_remove_run_dir();
    folder_remove(fakes);
}

static inline struct machine_options fake_options(enum machine_kind kind, const char *name)
{
    struct machine_options o = rig_options(kind, name);
    snprintf(o.eif, sizeof o.eif, "%s", image_path);
    return o;
}

/* A keeper that was asked for this, and must fail with these words. */
static inline struct keeper_message fake_must_fail(
    const struct machine_options *o, const char *words)
{
    struct keeper_rig k = rig_spawn();
    rig_ask(&k, o);
    struct keeper_message msg = rig_hear(&k, 40);
    assert_int_equal(msg.kind, KEEPER_FAILED);
    assert_contains(msg.u.text, words);
    assert_true(rig_has_ended(k.pid, 4000));
    rig_close(&k);
    return msg;
}

#endif

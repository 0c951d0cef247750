#include "nitro/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "nitro/attestation_chain.h"
#include "nitro/cpio.h"
#include "nitro/eif_sign.h"
#include "nitro/eif_write.h"
#include "tmkms-version.h"

/* ---- the image folder ---------------------------------------------------------------- */

static bool join(char out[static PATH_MAX], const char *folder, const char *rest, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s%s/%s", folder, rest, name);
    return n > 0 && n < PATH_MAX;
}

/* The folder so many levels above that of the running program. */
static bool folder_above(char out[static PATH_MAX], unsigned levels)
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0)
        return false;
    out[n] = '\0';
    for (unsigned i = 0; i <= levels; i++) {
        char *slash = strrchr(out, '/');
        if (slash == NULL)
            return false;
        *slash = '\0';
    }
    return true;
}

static bool take_readable(char ret[static PATH_MAX], const char *path)
{
    bool ok = access(path, R_OK) == 0;
    if (ok)
        snprintf(ret, PATH_MAX, "%s", path);
    return ok;
}

bool image_folder_file(const char *name, char ret[static PATH_MAX], struct err *err)
{
    static const char installed[] = "/lib/tmkms", built[] = "/image";
    char folders[2][PATH_MAX], path[PATH_MAX];
    const char *named = getenv("TMKMS_IMAGE_DIR");
    if (named != NULL && named[0] != '\0')
        return (join(path, named, "", name) && take_readable(ret, path)) ||
               err_errno(err, "there is no %s in TMKMS_IMAGE_DIR (%s)", name, named);
    if (!folder_above(folders[0], 1) || !folder_above(folders[1], 2))
        return err_set(err,
            "cannot find this program's own folder; TMKMS_IMAGE_DIR can name "
            "the folder of %s",
            name);
    if ((join(path, folders[0], installed, name) && take_readable(ret, path)) ||
        (join(path, folders[1], built, name) && take_readable(ret, path)))
        return true;
    return err_set(err,
        "there is no %s in %s%s or %s%s: `make image` in the source tree makes it, "
        "TMKMS_IMAGE_DIR names another folder",
        name, folders[0], installed, folders[1], built);
}

static bool find_part(
    const char *named, const char *name, char ret[static PATH_MAX], struct err *err)
{
    if (named == NULL)
        return image_folder_file(name, ret, err);
    return snprintf(ret, PATH_MAX, "%s", named) < PATH_MAX ||
           err_set(err, "the path %.80s... is too long", named);
}

/* ---- parts --------------------------------------------------------------------------- */

static bool make_cmdline(
    char out[static IMAGE_CMDLINE_MAX + 1], const struct image_request *q, struct err *err)
{
    const char *text = q->cmdline != NULL ? q->cmdline : IMAGE_CMDLINE;
    int n = snprintf(out, IMAGE_CMDLINE_MAX + 1, "%s%s%s", text, q->is_debug ? " " : "",
        q->is_debug ? IMAGE_DEBUG_WORD : "");
    if (n <= 0)
        return err_set(err, "the command line is empty");
    if (n > IMAGE_CMDLINE_MAX)
        return err_set(
            err, "the command line has %d characters, at most %d have room", n, IMAGE_CMDLINE_MAX);
    for (const char *p = out; *p != '\0'; p++)
        if (*p < ' ' || *p > '~')
            return err_set(err, "the command line holds a character that is not printable ASCII");
    return true;
}

static bool check_elf(struct bytes elf, bool is_aarch64, struct err *err)
{
    enum { HEADER_LEN = 64, MACHINE_AT = 18, X86_64 = 62, AARCH64 = 183 };
    static const uint8_t elf64[] = {0x7f, 'E', 'L', 'F', 2, 1};
    if (elf.n < HEADER_LEN || memcmp(elf.p, elf64, sizeof elf64) != 0)
        return err_set(err, "it is no 64-bit program (ELF)");
    if (elf.p[MACHINE_AT] != (is_aarch64 ? AARCH64 : X86_64) || elf.p[MACHINE_AT + 1] != 0)
        return err_set(
            err, "it is not for %s, as the kernel is", is_aarch64 ? "aarch64" : "x86-64");
    return true;
}

static bool check_module(struct bytes module, bool is_aarch64, struct err *err)
{
    enum { KIND_AT = 16, RELOCATABLE = 1 };
    if (!check_elf(module, is_aarch64, err))
        return false;
    return (module.p[KIND_AT] == RELOCATABLE && module.p[KIND_AT + 1] == 0) ||
           err_set(err, "it is no kernel module (an uncompressed .ko)");
}

/* A static ELF program: the ramdisk has no loader and no libraries, and any other init is a kernel panic. */
static bool check_init(struct bytes init, bool is_aarch64, struct err *err)
{
    enum { ENTRIES_AT = 32, ENTRY_SIZE_AT = 54, ENTRY_MIN = 56, INTERPRETER = 3 };
    if (!check_elf(init, is_aarch64, err))
        return false;
    struct reader at = reader_of(bytes_of(init.p + ENTRIES_AT, 8));
    uint64_t table = read_u64le(&at);
    size_t size = (size_t)init.p[ENTRY_SIZE_AT] | (size_t)init.p[ENTRY_SIZE_AT + 1] << 8;
    size_t n = (size_t)init.p[ENTRY_SIZE_AT + 2] | (size_t)init.p[ENTRY_SIZE_AT + 3] << 8;
    if (size < ENTRY_MIN || table > init.n || n > (init.n - (size_t)table) / size)
        return err_set(err, "its program headers are damaged");
    for (size_t i = 0; i < n; i++) {
        struct reader entry = reader_of(bytes_of(init.p + table + i * size, 4));
        if (read_u32le(&entry) == INTERPRETER)
            return err_set(err, "it is linked dynamically, and an image has no libraries");
    }
    return true;
}

enum { RAMDISK_ENTRIES_MAX = 6 };

/* An empty module: none. */
static bool make_ramdisk(
    struct bytes init, struct bytes module, uint8_t **ret, size_t *ret_n, struct err *err)
{
    struct cpio_entry entries[RAMDISK_ENTRIES_MAX] = {
        {.name = "dev", .mode = CPIO_DIRECTORY | 0755},
        {.name = "dev/console", .mode = CPIO_DEVICE | 0600, .device_major = 5, .device_minor = 1},
        {.name = "init", .mode = CPIO_FILE | 0755, .data = init},
    };
    size_t n = 3;
    if (module.n > 0)
        entries[n++] =
            (struct cpio_entry){.name = IMAGE_NSM_MODULE, .mode = CPIO_FILE | 0600, .data = module};
    entries[n++] = (struct cpio_entry){.name = "proc", .mode = CPIO_DIRECTORY | 0755};
    entries[n++] = (struct cpio_entry){.name = "sys", .mode = CPIO_DIRECTORY | 0755};
    return cpio_write(entries, n, ret, ret_n, err);
}

static bool read_custom(json_t **ret, const char *path, struct err *err)
{
    json_error_t why;
    struct eif_file file = {0};
    if (path == NULL) {
        *ret = json_null();
        return true;
    }
    if (!eif_part_open(&file, path, err))
        return false;
    size_t n = file.content.n;
    json_t *json = n <= IMAGE_METADATA_MAX
                       ? json_loadb((const char *)file.content.p, n, JSON_REJECT_DUPLICATES, &why)
                       : NULL;
    eif_file_close(&file);
    if (n > IMAGE_METADATA_MAX)
        return err_set(
            err, "%s has %zu bytes, and metadata may have %d", path, n, IMAGE_METADATA_MAX);
    if (json == NULL)
        return err_set(err, "%s is no JSON: line %d: %s", path, why.line, why.text);
    if (!json_is_object(json)) {
        json_decref(json);
        return err_set(err, "%s holds no JSON object", path);
    }
    *ret = json;
    return true;
}

/* The keys and their order are the reference's (aws-nitro-enclaves-image-format, EifIdentityInfo). */
static char *make_metadata(
    const struct image_request *q, const struct kernel *kernel, struct err *err)
{
    char time[TIME_TEXT_LEN];
    json_t *custom = NULL;
    if (!read_custom(&custom, q->metadata, err))
        return NULL;
    time_text(q->build_time_s, time);
    json_error_t why;
    json_t *root = json_pack_ex(&why, 0, "{s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s}, s:n, s:o}",
        "ImageName", q->name != NULL ? q->name : "tmkms", "ImageVersion",
        q->version != NULL ? q->version : TMKMS_VERSION, "BuildMetadata", "BuildTime", time,
        "BuildTool", "tmkms", "BuildToolVersion", TMKMS_VERSION, "OperatingSystem", "Linux",
        "KernelVersion", kernel->version, "DockerInfo", "CustomMetadata", custom);
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (text == NULL)
        err_set(err, "the metadata cannot be made: %s", root == NULL ? why.text : "out of memory");
    return text;
}

/* ---- together ------------------------------------------------------------------------ */

/* What an image is made from, until it is written. */
struct parts {
    struct eif_file kernel_file, init_file, module_file;
    struct kernel kernel;
    char cmdline[IMAGE_CMDLINE_MAX + 1];
    char *metadata;
    uint8_t *ramdisk;
    size_t ramdisk_n;
    uint8_t signature[EIF_SIGNATURE_MAX];
};

static void parts_free(struct parts *p)
{
    kernel_free(&p->kernel);
    eif_file_close(&p->kernel_file);
    eif_file_close(&p->init_file);
    eif_file_close(&p->module_file);
    free(p->metadata);
    free(p->ramdisk);
}

static bool open_parts(
    struct parts *p, struct image *image, const struct image_request *q, struct err *err)
{
    if (!find_part(q->kernel, "bzImage", image->kernel_path, err) ||
        !find_part(q->init, "tmkms-enclave", image->init_path, err) ||
        !eif_part_open(&p->kernel_file, image->kernel_path, err) ||
        !eif_part_open(&p->init_file, image->init_path, err) ||
        (q->nsm_module != NULL && !eif_part_open(&p->module_file, q->nsm_module, err)))
        return false;
    if (!kernel_of(&p->kernel, p->kernel_file.content, err))
        return err_prefix(err, "%s", image->kernel_path);
    if (!check_init(p->init_file.content, p->kernel.is_aarch64, err))
        return err_prefix(err, "%s", image->init_path);
    if (q->nsm_module != NULL && !check_module(p->module_file.content, p->kernel.is_aarch64, err))
        return err_prefix(err, "%s", q->nsm_module);
    memcpy(image->kernel_version, p->kernel.version, sizeof image->kernel_version);
    return true;
}

static bool put_together(
    struct parts *p, struct image *image, const struct image_request *q, struct err *err)
{
    if (!make_cmdline(p->cmdline, q, err) ||
        !make_ramdisk(
            p->init_file.content, p->module_file.content, &p->ramdisk, &p->ramdisk_n, err))
        return false;
    p->metadata = make_metadata(q, &p->kernel, err);
    if (p->metadata == NULL)
        return false;
    struct eif eif = {
        .is_aarch64 = p->kernel.is_aarch64,
        .kernel = p->kernel.content,
        .cmdline = bytes_of_text(p->cmdline),
        .metadata = bytes_of_text(p->metadata),
        .ramdisks = {bytes_of(p->ramdisk, p->ramdisk_n)},
        .ramdisks_n = 1,
    };
    if (q->certificate != NULL &&
        !eif_sign(&eif, q->certificate, q->key, q->now_s, p->signature, err))
        return false;
    return eif_write(&eif, &image->file, &image->file_n, err);
}

bool image_build(struct image *ret, const struct image_request *request, struct err *err)
{
    struct parts *p = calloc(1, sizeof *p);
    struct image *image = calloc(1, sizeof *image);
    bool ok = p != NULL && image != NULL;
    if (!ok)
        err_set(err, "out of memory");
    ok = ok && open_parts(p, image, request, err) && put_together(p, image, request, err) &&
         eif_parse(&image->eif, bytes_of(image->file, image->file_n), err) &&
         eif_measure(&image->eif, &image->pcrs, err);
    if (ok)
        *ret = *image;
    else if (image != NULL)
        free(image->file);
    if (p != NULL)
        parts_free(p);
    free(p);
    free(image);
    return ok;
}

void image_free(struct image *image)
{
    free(image->file);
    *image = (struct image){0};
}

/* Signed images: every curve, every key that must not sign, and every bit of a signature. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "folder.h"
#include "nitro/cbor.h"
#include "nitro/eif_sign.h"
#include "nitro/eif_write.h"
#include "nitro/golden_image.h"
#include "nitro/pcr.h"
#include "nitro/signer.h"
#include "run.h"

enum { BEGIN = 1700000000, NOW = 1800000000, END = 1900000000 };

static char folder[] = "/tmp/tmkms-eif-sign-XXXXXX";
static char certificate[64], key[64], other_key[64];
static uint8_t buf[65536], section[EIF_SIGNATURE_MAX];
static struct err err;

static int start(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(certificate, sizeof certificate, "%s/cert.pem", folder);
    snprintf(key, sizeof key, "%s/key.pem", folder);
    snprintf(other_key, sizeof other_key, "%s/other.pem", folder);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    folder_remove(folder);
    return 0;
}

static void save_signer(const char *group, const char *passphrase)
{
    struct test_signer signer;
    signer_make(&signer, group, BEGIN, END);
    signer_save(&signer, certificate, key, passphrase);
    signer_free(&signer);
}

static struct eif golden(void)
{
    struct eif eif;
    assert_true(eif_parse(&eif, image_golden(buf, sizeof buf, 2), &err));
    return eif;
}

static struct eif_pcrs measured(const struct eif *eif)
{
    struct eif_pcrs pcrs;
    assert_true(eif_measure(eif, &pcrs, &err));
    return pcrs;
}

static void every_curve_signs(void **state)
{
    (void)state;
    static const char *const groups[] = {"P-256", "P-384", "P-521"};
    for (size_t i = 0; i < 3; i++) {
        uint8_t der[EIF_CERTIFICATE_MAX], pcr8[PCR_LEN];
        size_t der_n = 0;
        save_signer(groups[i], NULL);
        struct eif eif = golden();
        assert_true(eif_sign(&eif, certificate, key, NOW, section, &err));
        struct eif_pcrs pcrs = measured(&eif);
        assert_int_equal(pcrs.present, 0x107);
        assert_hex(bytes_of(pcrs.values[0], PCR_LEN), IMAGE_A_PCR0);
        assert_true(eif_certificate_read(certificate, der, &der_n, &err));
        eif_certificate_measure(bytes_of(der, der_n), pcr8);
        assert_memory_equal(pcrs.values[8], pcr8, PCR_LEN);
        assert_true(eif_signature_check(&eif, pcrs.values[0], &err));
        pcrs.values[0][47] ^= 1;
        assert_false(eif_signature_check(&eif, pcrs.values[0], &err));
        assert_contains(err.text, "another image");
    }
}

static void it_can_be_signed_anew(void **state)
{
    (void)state;
    save_signer("P-521", NULL);
    struct eif eif = golden();
    uint8_t *file = NULL;
    size_t n = 0, first_n = 0;
    assert_true(eif_sign(&eif, certificate, key, NOW, section, &err));
    first_n = eif.signature.n;
    assert_true(eif_write(&eif, &file, &n, &err));
    /* shorter: the size in the table changes with it */
    save_signer("P-256", NULL);
    struct eif back;
    uint8_t *again = NULL;
    assert_true(eif_parse(&back, bytes_of(file, n), &err));
    assert_true(eif_sign(&back, certificate, key, NOW, section, &err));
    assert_true(back.signature.n < first_n);
    assert_true(eif_write(&back, &again, &n, &err));
    assert_true(eif_parse(&eif, bytes_of(again, n), &err));
    struct eif_pcrs pcrs = measured(&eif);
    assert_hex(bytes_of(pcrs.values[0], PCR_LEN), IMAGE_A_PCR0);
    assert_true(eif_signature_check(&eif, pcrs.values[0], &err));
    free(file);
    free(again);
}

static void refused(int64_t now_s, const char *key_path, const char *why)
{
    struct eif eif = golden();
    assert_false(eif_sign(&eif, certificate, key_path, now_s, section, &err));
    assert_int_equal(eif.signature.n, 0);
    assert_contains(err.text, why);
}

static void keys_that_do_not_sign(void **state)
{
    (void)state;
    struct test_signer other;
    save_signer("P-384", NULL);
    refused(BEGIN - 1, key, "valid from 2023-11-14T22:13:20Z to 2030-03-17T17:46:40Z and not now");
    refused(END + 1, key, "not now");
    refused(NOW, certificate, "no private key");
    refused(NOW, folder, "cannot");
    refused(NOW, "/nonexistent", "cannot open /nonexistent");
    signer_make(&other, "P-384", BEGIN, END);
    signer_save(&other, other_key, other_key, NULL);
    signer_free(&other);
    refused(NOW, other_key, "is not that of the certificate");
    signer_make(&other, "P-224", BEGIN, END);
    signer_save(&other, certificate, key, NULL);
    signer_free(&other);
    refused(NOW, key, "no key on P-256");
    save_signer("RSA", NULL);
    refused(NOW, key, "no key on P-256");
    save_signer("P-384", "secret");
    refused(NOW, key, "is encrypted; `openssl pkey");
    FILE *out = fopen(certificate, "w");
    fputs("no certificate\n", out);
    fclose(out);
    refused(NOW, key, "no certificate in PEM form");
}

/* Someone keeps both in one file, as web servers like it: the key must not end up in a public image. */
static void a_key_in_the_certificates_file_stays_out(void **state)
{
    (void)state;
    char both[8192];
    uint8_t pem[EIF_CERTIFICATE_MAX];
    save_signer("P-384", NULL);
    FILE *in = fopen(certificate, "r");
    size_t n = fread(both, 1, sizeof both, in);
    fclose(in);
    in = fopen(key, "r");
    size_t key_n = fread(both + n, 1, sizeof both - n, in);
    fclose(in);
    FILE *out = fopen(certificate, "w");
    fwrite(both + n, 1, key_n, out);
    fwrite(both, 1, n, out);
    fclose(out);
    struct eif eif = golden();
    assert_true(eif_sign(&eif, certificate, certificate, NOW, section, &err));
    struct reader r = reader_of(eif.signature);
    cbor_read_array(&r);
    cbor_read_map(&r);
    assert_true(bytes_equal(cbor_read_text(&r), bytes_of_text("signing_certificate")));
    size_t pem_n = cbor_read_octets(&r, pem, sizeof pem);
    assert_int_equal(pem_n, n);
    assert_memory_equal(pem, both, n);
}

/* Every bit counts, but for the certificate's own bits, which change PCR8 instead (or, in its signature and names, the
 * key stays and PCR8 alone changes), and line ends of the PEM. */
static void a_changed_signature_is_seen(void **state)
{
    (void)state;
    save_signer("P-256", NULL);
    struct eif eif = golden();
    assert_true(eif_sign(&eif, certificate, key, NOW, section, &err));
    const struct eif_pcrs pcrs = measured(&eif);
    size_t seen = 0, only_pcr8 = 0, nothing = 0;
    for (size_t bit = 0; bit < 8 * eif.signature.n; bit += 3) {
        struct eif_pcrs changed = {0};
        section[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (!eif_measure(&eif, &changed, &err) || !eif_signature_check(&eif, pcrs.values[0], &err))
            seen++;
        else if (memcmp(changed.values[8], pcrs.values[8], PCR_LEN) != 0)
            only_pcr8++;
        else
            nothing++;
        section[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(seen > only_pcr8);
    assert_true(only_pcr8 > 0);
    assert_true(nothing * 50 < seen);
}

static void truncation_is_refused(void **state)
{
    (void)state;
    save_signer("P-256", NULL);
    struct eif eif = golden();
    struct eif_signature parsed;
    assert_true(eif_sign(&eif, certificate, key, NOW, section, &err));
    for (size_t n = 0; n < eif.signature.n; n++) {
        uint8_t *copy = malloc(n + 1);
        memcpy(copy, eif.signature.p, n);
        assert_false(eif_signature_parse(&parsed, bytes_of(copy, n), &err));
        free(copy);
    }
    assert_true(eif_signature_parse(&parsed, eif.signature, &err));
}

static void described_as_nitro_cli_does(void **state)
{
    (void)state;
    uint8_t der[EIF_CERTIFICATE_MAX];
    size_t n = 0;
    save_signer("P-384", NULL);
    assert_true(eif_certificate_read(certificate, der, &n, &err));
    json_t *json = eif_certificate_describe(bytes_of(der, n), &err);
    assert_non_null(json);
    const char *common = NULL, *algorithm = NULL, *begin = NULL, *end = NULL, *signature = NULL;
    assert_int_equal(json_unpack(json, "{s:{s:s}, s:s, s:s, s:s, s:s !}", "IssuerName",
                         "commonName", &common, "Algorithm", &algorithm, "NotBefore", &begin,
                         "NotAfter", &end, "Signature", &signature),
        0);
    assert_string_equal(common, "image signer");
    assert_string_equal(algorithm, "ecdsa-with-SHA384");
    assert_string_equal(begin, "Nov 14 22:13:20 2023 GMT");
    assert_string_equal(end, "Mar 17 17:46:40 2030 GMT");
    assert_int_equal(strncmp(signature, "30:", 3), 0);
    json_decref(json);
    assert_null(eif_certificate_describe(bytes_of(der, n - 1), &err));
    assert_true(eif_certificate_is_valid(bytes_of(der, n), NOW, &err));
    assert_false(eif_certificate_is_valid(bytes_of(der, n), END + 1, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_curve_signs),
        cmocka_unit_test(it_can_be_signed_anew),
        cmocka_unit_test(keys_that_do_not_sign),
        cmocka_unit_test(a_key_in_the_certificates_file_stays_out),
        cmocka_unit_test(a_changed_signature_is_seen),
        cmocka_unit_test(truncation_is_refused),
        cmocka_unit_test(described_as_nitro_cli_does),
    };
    return cmocka_run_group_tests(tests, start, stop);
}

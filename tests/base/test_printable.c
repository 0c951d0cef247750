/* What may reach a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/printable.h"

static void harmless_text_stays(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "plain ~!", "two\nlines\tand a tab",
        "Z\xc3\xbcrich \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x94\x91", "\xc2\xa0"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", texts[i]);
        printable_make(text);
        assert_string_equal(text, texts[i]);
    }
}

static void what_steers_a_terminal_is_replaced(void **state)
{
    (void)state;
    static const struct {
        const char *given, *made;
    } cases[] = {
        {"\033[2Jx", "?[2Jx"}, {"\r\b\a\v\f\x7f", "??????"},
        {"a\xc2\x9b"
         "2Jb",
            "a??2Jb"}, /* U+009B: CSI in one character */
        {"a\xe2\x80\xae"
         "b",
            "a???b"}, /* U+202E: right to left */
        {"\xe2\x81\xa6\xef\xbb\xbf", "??????"}, {"\xf3\xa0\x81\x81", "????"}, /* a tag */
        {"\x9b\xff\xc3", "???"}, /* no UTF-8, and cut off */
        {"\xe2\x80", "??"}, {"\xf0\x9f\x94", "???"},
        {"\xc0\x9b\xe0\x80\x9b", "?????"}, /* longer than need be */
        {"\xed\xa0\x80", "???"},           /* half of a surrogate */
        {"\xf4\x90\x80\x80", "????"},      /* above the last code point */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", cases[i].given);
        printable_make(text);
        assert_string_equal(text, cases[i].made);
    }
}

/* Of every pair of bytes nothing is left that is a control in 7 bits, in 8 bits or in UTF-8. */
static void no_pair_of_bytes_is_left_that_controls(void **state)
{
    (void)state;
    size_t kept = 0;
    for (unsigned a = 1; a < 256; a++)
        for (unsigned b = 1; b < 256; b++) {
            char text[] = {(char)a, (char)b, '\0'};
            printable_make(text);
            assert_int_equal(strlen(text), 2);
            for (const char *p = text; *p != '\0'; p++)
                assert_true(*p == '\n' || *p == '\t' || ((unsigned char)*p >= ' ' && *p != 0x7f));
            if ((unsigned char)text[0] == 0xc2)
                assert_true((unsigned char)text[1] >= 0xa0);
            kept += text[0] == (char)a && text[1] == (char)b;
        }
    assert_int_equal(
        kept, 97 * 97 + 30 * 64 - 32 - 11); /* but for U+0080 to 9F, and what is hidden */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(harmless_text_stays),
        cmocka_unit_test(what_steers_a_terminal_is_replaced),
        cmocka_unit_test(no_pair_of_bytes_is_left_that_controls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "cli/state_show.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/command.h"
#include "cli/json_print.h"

enum { TIME_TEXT_MAX = 48, HEX_MAX = 2 * PUBLIC_KEY_MAX + 1 };

static const char *form_name(enum slot_form form)
{
    switch (form) {
    case SLOT_VALID:
        return "valid";
    case SLOT_DAMAGED:
        return "damaged";
    case SLOT_OTHER_VERSION:
        return "of another version";
    }
    return "unknown";
}

void state_words(const struct watermark *mark, char out[STATE_WORDS_MAX])
{
    const struct signable *last = &mark->last;
    bool floor_counts = mark->floor >= last->height;
    if (floor_counts && mark->floor == 0)
        snprintf(out, STATE_WORDS_MAX, "nothing was signed yet");
    else if (floor_counts)
        snprintf(out, STATE_WORDS_MAX, "signs above height %" PRId64, mark->floor);
    else
        snprintf(out, STATE_WORDS_MAX, "signs after the %s at %" PRId64 "/%" PRId32,
            step_name(last->step), last->height, last->round);
}

static void time_text(const struct timestamp *t, char out[TIME_TEXT_MAX])
{
    time_t seconds = (time_t)t->seconds;
    struct tm tm;
    size_t n = gmtime_r(&seconds, &tm) != NULL
                   ? strftime(out, TIME_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm)
                   : 0;
    snprintf(out + n, TIME_TEXT_MAX - n, ".%09dZ", (int)t->nanos);
}

void state_show_damage(const char *path, const struct journal_view *view)
{
    if (view->size != JOURNAL_SIZE)
        command_warn("%s has %lld bytes instead of %d", path, view->size, JOURNAL_SIZE);
    for (int i = 0; i < 2; i++)
        if (view->form[i] != SLOT_VALID)
            command_warn("slot %d of %s is %s", i, path, form_name(view->form[i]));
    if (view->form[0] == SLOT_VALID && view->form[1] == SLOT_VALID && !view->is_intact &&
        view->size == JOURNAL_SIZE)
        command_warn("the slots of %s have the sequence numbers %" PRIu64 " and %" PRIu64
                     ", which do not follow each other: a write was lost",
            path, view->slot[0].sequence, view->slot[1].sequence);
}

static bool burns_first(const struct journal_view *view)
{
    return !view->is_intact || view->slot[view->newest].burn_next;
}

void state_show_text(const char *path, const struct journal_view *view, const char *holder)
{
    const struct record *rec = &view->slot[view->newest];
    const struct signable *last = &rec->mark.last;
    char hex[HEX_MAX], words[STATE_WORDS_MAX], when[TIME_TEXT_MAX];
    state_show_damage(path, view);
    hex_upper(bytes_of(rec->key.bytes, rec->key.len), hex);
    state_words(&rec->mark, words);
    printf("state file:  %s\n", path);
    printf("chain:       %s\n", rec->chain_id);
    printf("public key:  %s %s\n", key_type_name((enum key_type)rec->key.type), hex);
    printf("watermark:   %s\n", words);
    if (last->step != STEP_NONE) {
        time_text(&last->timestamp, when);
        hex_upper(bytes_of(last->block_id.hash, last->block_id.hash_len), hex);
        printf("block:       %s\n", last->block_id.hash_len > 0 ? hex : "nil");
        printf("timestamp:   %s\n", when);
    }
    printf("slots:       %s, %s; sequence %" PRIu64 "\n", form_name(view->form[0]),
        form_name(view->form[1]), rec->sequence);
    if (burns_first(view))
        printf("next:        the first height asked for will not be signed\n");
    if (holder != NULL)
        printf("in use by:   %s\n", holder);
}

static json_t *text_of_number(int64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, v);
    return json_string(text);
}

static json_t *text_of_hex(const uint8_t *p, size_t n)
{
    char hex[HEX_MAX];
    hex_upper(bytes_of(p, n), hex);
    return json_string(hex);
}

static json_t *json_of_last(const struct signable *last)
{
    if (last->step == STEP_NONE)
        return json_null();
    char when[TIME_TEXT_MAX];
    time_text(&last->timestamp, when);
    const struct block_id *id = &last->block_id;
    return json_pack("{s:o, s:i, s:s, s:i, s:{s:o, s:{s:I, s:o}}, s:s}", "height",
        text_of_number(last->height), "round", (int)last->round, "step", step_name(last->step),
        "pol_round", (int)last->pol_round, "block_id", "hash", text_of_hex(id->hash, id->hash_len),
        "parts", "total", (json_int_t)id->parts_total, "hash",
        text_of_hex(id->parts_hash, id->parts_hash_len), "timestamp", when);
}

void state_show_json(const char *path, const struct journal_view *view, long holder)
{
    const struct record *rec = &view->slot[view->newest];
    json_t *root = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:b, s:o, s:[s,s], s:o}", "state_file",
        path, "chain_id", rec->chain_id, "key_type", key_type_name((enum key_type)rec->key.type),
        "public_key", text_of_hex(rec->key.bytes, rec->key.len), "floor",
        text_of_number(rec->mark.floor), "last_signed", json_of_last(&rec->mark.last),
        "burns_first", burns_first(view), "sequence", text_of_number((int64_t)rec->sequence),
        "slots", form_name(view->form[0]), form_name(view->form[1]), "in_use_by",
        holder > 0 ? json_integer(holder) : json_null());
    if (!json_print(root, JSON_INDENT(2)))
        command_failed("cannot print %s as JSON", path);
    json_decref(root);
}

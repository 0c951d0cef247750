#include "state/link_parent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"

struct link_parent parent;
struct signing_key *link_key;
uint8_t link_mac_key[32];

struct record *link_parent_stored(void)
{
    return &parent.history[parent.n - 1];
}

static void store(const struct record *rec)
{
    assert_true(parent.n < HISTORY);
    parent.history[parent.n++] = *rec;
}

static bool misbehaves(void)
{
    if (parent.times == 0)
        return false;
    parent.times--;
    return true;
}

static bool say(const struct link_frame *f)
{
    uint8_t out[LINK_FRAME_MAX];
    struct bytes b = link_frame_write(f, out);
    return fd_write_exact(parent.fd, b.p, b.n);
}

bool link_parent_say(const void *p, size_t n)
{
    return fd_write_exact(parent.fd, p, n);
}

static bool say_record(const struct record *rec, bool burns_first)
{
    uint8_t line[RECORD_LINE_MAX];
    struct link_frame f = link_frame_of_record(rec, line);
    f.burns_first = burns_first;
    return say(&f);
}

void link_parent_put_mac(struct record *rec)
{
    uint8_t line[RECORD_LINE_MAX];
    struct link_frame f = link_frame_of_record(rec, line);
    link_mac(link_mac_key, f.sequence, f.text, rec->link_mac);
}

static bool say_cut(void)
{
    uint8_t out[LINK_FRAME_MAX], line[RECORD_LINE_MAX];
    struct link_frame f = link_frame_of_record(link_parent_stored(), line);
    link_parent_say(out, link_frame_write(&f, out).n / 2);
    return false;
}

static bool show(enum show how)
{
    struct record rec = *link_parent_stored();
    switch (how) {
    case SHOW_STORED:
        return say_record(&rec, false);
    case SHOW_OLD:
        return say_record(&parent.history[parent.n > 1 ? parent.n - 2 : 0], false);
    case SHOW_INIT:
        record_unlink(&rec);
        return say_record(&rec, false);
    case SHOW_BAD_MAC:
        rec.link_sequence += rec.link_sequence == 0;
        rec.link_mac[31] ^= 1;
        return say_record(&rec, false);
    case SHOW_CHANGED:
        rec.mark.floor++;
        rec.link_sequence += rec.link_sequence == 0;
        return say_record(&rec, false);
    case SHOW_OTHER_ENCLAVE:
        rec.link_sequence += 3;
        rec.mark.floor += 5;
        link_parent_put_mac(&rec);
        return say_record(&rec, false);
    case SHOW_FOREIGN:
        rec.link_sequence++;
        snprintf(rec.chain_id, sizeof rec.chain_id, "other-1");
        link_parent_put_mac(&rec);
        return say_record(&rec, false);
    case SHOW_BURN:
        return say_record(&rec, true);
    case SHOW_GARBAGE:
        return link_parent_say("\10\0\0\0garbage!", 12);
    case SHOW_EMPTY:
        return link_parent_say("\0\0\0\0", 4);
    case SHOW_LONG:
        return link_parent_say("\377\377\377\377", 4);
    case SHOW_CUT:
        return say_cut();
    case SHOW_ACK:
        return say(&(struct link_frame){.kind = LINK_ACK, .sequence = rec.link_sequence});
    case SHOW_REFUSE:
        return say(&(struct link_frame){
            .kind = LINK_REFUSE, .text = bytes_of_text("no \033[31m entry\n")});
    case SHOW_HANGUP:
    case SHOW_N:
        break;
    }
    return false;
}

static bool say_ack(uint64_t sequence)
{
    return say(&(struct link_frame){.kind = LINK_ACK, .sequence = sequence});
}

static bool answer(enum answer how, const struct record *rec)
{
    bool is_kept = how == ANSWER_HONEST || how == ANSWER_STORE_HANGUP ||
                   how == ANSWER_STORE_REFUSE || how == ANSWER_PROBED || how == ANSWER_TWICE;
    bool is_new = rec->link_sequence != link_parent_stored()->link_sequence;
    if (is_kept && is_new)
        store(rec);
    switch (how) {
    case ANSWER_HONEST:
    case ANSWER_UNSTORED:
        return say_ack(rec->link_sequence);
    case ANSWER_STORE_REFUSE:
    case ANSWER_DROP_REFUSE:
        say(&(struct link_frame){.kind = LINK_REFUSE, .text = bytes_of_text("not now")});
        return false;
    case ANSWER_NEXT:
        return say_ack(rec->link_sequence + 1);
    case ANSWER_BEFORE:
        return say_ack(rec->link_sequence - 1);
    case ANSWER_GARBAGE:
        return link_parent_say("\4\0\0\0\377\377\377\377", 8);
    case ANSWER_CUT:
        link_parent_say("\11\0\0\0\3\0\0", 7);
        return false;
    case ANSWER_RECORD:
        return say_record(link_parent_stored(), false);
    case ANSWER_PROBED:
        return say(&(struct link_frame){.kind = LINK_PROBE}) && say_ack(rec->link_sequence);
    case ANSWER_TWICE:
        return say_ack(rec->link_sequence) && say_ack(rec->link_sequence);
    case ANSWER_STORE_HANGUP:
    case ANSWER_DROP_HANGUP:
    case ANSWER_N:
        break;
    }
    return false;
}

static bool serve_frame(const struct link_frame *f)
{
    struct record rec;
    switch (f->kind) {
    case LINK_HELLO:
        return show(parent.show != SHOW_STORED && misbehaves() ? parent.show : SHOW_STORED);
    case LINK_RECORD:
        if (!link_frame_record(&rec, f) || f->burns_first)
            abort();
        return answer(
            parent.answer != ANSWER_HONEST && misbehaves() ? parent.answer : ANSWER_HONEST, &rec);
    case LINK_ALIVE:
        parent.alive_answers++;
        return true;
    case LINK_ACK:
    case LINK_REFUSE:
    case LINK_PROBE:
        break;
    }
    abort(); /* an enclave never says these */
}

static void *serve(void *arg)
{
    uint8_t in[LINK_FRAME_MAX];
    struct link_frame f;
    (void)arg;
    do {
        if (!fd_read_exact(parent.fd, in, LINK_HEAD) ||
            !fd_read_exact(parent.fd, in + LINK_HEAD, link_frame_length(in)) || parent.is_deaf)
            break;
        if (!link_frame_read(&f, bytes_of(in + LINK_HEAD, link_frame_length(in))))
            abort();
    } while (serve_frame(&f));
    if (parent.is_deaf) /* silence, until the enclave gives up */
        while (read(parent.fd, in, sizeof in) > 0)
            ;
    shutdown(parent.fd, SHUT_RDWR);
    return NULL;
}

/* The enclave has given the last connection up. */
void link_parent_wait(void)
{
    if (!parent.has_thread)
        return;
    pthread_join(parent.thread, NULL);
    close(parent.fd);
    parent.has_thread = false;
}

int link_parent_dial(void *ctx, uint64_t deadline_us, struct err *err)
{
    int pair[2];
    (void)ctx;
    (void)err;
    assert_true(deadline_us > clock_monotonic_us());
    assert_true(deadline_us <= clock_monotonic_us() + HOST_LINK_CONNECT_US);
    link_parent_wait();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    parent.fd = pair[1];
    parent.connections++;
    assert_int_equal(pthread_create(&parent.thread, NULL, serve, NULL), 0);
    parent.has_thread = true;
    return pair[0];
}

void link_parent_reset(void)
{
    link_parent_wait();
    memset(&parent, 0, sizeof parent);
    struct record rec = {.key = *signing_key_public(link_key)};
    snprintf(rec.chain_id, sizeof rec.chain_id, "%s", link_chain_id);
    store(&rec);
}

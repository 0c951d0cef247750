/* state_show: a state file in words, for people, and in JSON, for scripts. */
#ifndef TMKMS_CLI_STATE_SHOW_H
#define TMKMS_CLI_STATE_SHOW_H

#include "state/journal.h"

enum { STATE_WORDS_MAX = 160 };

/* From where on it signs: "signs above height 36", "signs after the precommit at 36/0". */
void state_words(const struct watermark *mark, char out[STATE_WORDS_MAX]);

/* To standard output; view has a record that counts. holder: the process that uses the file, in
 * words or by its number; NULL, 0: none. */
void state_show_text(const char *path, const struct journal_view *view, const char *holder);
void state_show_json(const char *path, const struct journal_view *view, long holder);

/* What is wrong with the file, to standard error; nothing if nothing is. */
void state_show_damage(const char *path, const struct journal_view *view);

#endif

/* config_child: the throw-away process that parses tmkms.toml, and the monitor's side of it. */
#ifndef TMKMS_MONITOR_CONFIG_CHILD_H
#define TMKMS_MONITOR_CONFIG_CHILD_H

#include "monitor/core.h"

/* config_child_main reads the file from standard input and sends it as frames. name is for
 * messages. */
int config_child_main(const char *name);

/* config_child_read starts the child and collects its frames, waiting like core_turn. false when problems has errors,
 * or when the program is told to end. */
bool config_child_read(struct monitor *m, struct config *ret, const char *path,
    struct problems *problems) ATTR_MUST_USE;

#endif

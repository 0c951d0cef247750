/* config_child: the throw-away process that parses tmkms.toml, and the monitor's side of it. */
#ifndef TMKMS_MONITOR_CONFIG_CHILD_H
#define TMKMS_MONITOR_CONFIG_CHILD_H

#include "config/config.h"

/* config_child_main reads the file from standard input and sends it as frames. name is for
 * messages. */
int config_child_main(const char *name);

/* config_child_read starts the child and collects its frames. false when problems has errors. */
bool config_child_read(
    struct config *ret, const char *path, struct problems *problems) ATTR_MUST_USE;

#endif

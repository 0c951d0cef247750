/* nsm_module: the driver of the security module, where the image's kernel has it as a module (AWS's own up to 6.6)
 * and the image brings it along: `build-enclave --nsm-module`. */
#ifndef TMKMS_ENCLAVE_NSM_MODULE_H
#define TMKMS_ENCLAVE_NSM_MODULE_H

#include <stdbool.h>

#include "base/attr.h"
#include "base/err.h"

/* What loads an opened module; init_module(2)'s system call in a machine, a stand-in in tests. -1 and errno. */
typedef int nsm_module_loader(int fd);
int nsm_module_load_into_kernel(int fd);

/* nsm_module_start loads the file of the ramdisk and removes it, which frees its memory. true also when there is
 * none. */
bool nsm_module_start(const char *root, nsm_module_loader *load, struct err *err) ATTR_MUST_USE;

#endif

/* credentials: where AWS credentials come from on the host: the usual environment variables, the shared credentials
 * file (AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE), IMDSv2 (AWS_EC2_METADATA_SERVICE_ENDPOINT overrides its address). */
#ifndef TMKMS_AWS_CREDENTIALS_H
#define TMKMS_AWS_CREDENTIALS_H

#include "aws/kms.h"

/* source: a word for messages ("environment", "profile default", "instance role NAME"). */
bool credentials_find(struct aws_credentials *ret, char source[128], struct err *err) ATTR_MUST_USE;

/* One value of IMDSv2, for example "instance-id" or "placement/region" under /latest/meta-data/. */
bool imds_get(const char *what, char *out, size_t cap, struct err *err) ATTR_MUST_USE;

#endif

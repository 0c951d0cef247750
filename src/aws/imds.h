/* imds: the EC2 instance metadata service, version 2 (a session token for every question). On the host. */
#ifndef TMKMS_AWS_IMDS_H
#define TMKMS_AWS_IMDS_H

#include "aws/kms.h"

enum { IMDS_TOKEN_MAX = 256, IMDS_ROLE_MAX = 128 };

/* The credentials of the instance's role; role gets its name. AWS_EC2_METADATA_SERVICE_ENDPOINT names another address,
 * AWS_EC2_METADATA_DISABLED=true forbids the question. */
bool imds_credentials(
    struct aws_credentials *ret, char role[IMDS_ROLE_MAX], struct err *err) ATTR_MUST_USE;

/* Reads {"AccessKeyId","SecretAccessKey","Token","Expiration"}, as the metadata service and the container agents give
 * it. Expired or malformed: false. */
bool imds_credentials_read(
    struct aws_credentials *ret, const char *json, size_t n, struct err *err) ATTR_MUST_USE;

#endif

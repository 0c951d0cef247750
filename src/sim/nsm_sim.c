/* The device of tmkms-sim: nsm_open starts the software NSM of nsm_server.c. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "nitro/nsm.h"
#include "sim/nsm_server.h"

const bool nsm_is_simulated = true;

int nsm_open(struct err *err)
{
    struct nsm_sim_options options;
    return nsm_sim_options_default(&options, err) ? nsm_server_start(&options, err) : -1;
}

/* The request carries one end of a fresh pair of sockets, and the answer comes back on the other: processes that share
 * fd cannot take each other's answers. */
bool nsm_exchange(int fd, struct bytes request, uint8_t response[NSM_RESPONSE_MAX], size_t *ret_n,
    struct err *err)
{
    int pair[2] ATTR_CLEANUP(fd_close_pair) = {-1, -1};
    if (request.n > NSM_REQUEST_MAX)
        return err_set(err, "the request to the software NSM is too long");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0 ||
        !fd_send_msg(fd, request.p, request.n, &pair[1], 1))
        return err_errno(err, "the software NSM does not take a request");
    fd_close(&pair[1]);
    size_t fds_n = 0;
    ssize_t n = fd_recv_msg(pair[0], response, NSM_RESPONSE_MAX, NULL, 0, &fds_n);
    if (n <= 0)
        return err_set(err, "the software NSM does not answer");
    *ret_n = (size_t)n;
    return true;
}

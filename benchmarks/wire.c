/* The load client's sockets: plain, with TLS (-DWITH_TLS), and inflating (-DWITH_ZLIB).
 *
 * Only the works that need the two libraries use them, so the others run without their headers.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#ifdef WITH_TLS
#include <openssl/ssl.h>

static SSL_CTX *context;

int wire_tls_start(conn *c) {
    if (!context) {
        context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(context,
                         SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        /* The certificate is self-signed, so it is not verified. */
        SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    }
    c->tls = SSL_new(context);
    if (!c->tls) return -2;
    SSL_set_fd(c->tls, c->fd);
    SSL_set_connect_state(c->tls);
    return 1;
}

static long outcome(conn *c, int result) {
    if (result > 0) return result;
    switch (SSL_get_error(c->tls, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default: return -2;
    }
}

int wire_tls_shake(conn *c) { return (int)outcome(c, SSL_do_handshake(c->tls)); }
#else
int wire_tls_start(conn *c) {
    (void)c;
    return -2;
}
int wire_tls_shake(conn *c) {
    (void)c;
    return -2;
}
#endif

long wire_read(conn *c, uint8_t *into, size_t size) {
#ifdef WITH_TLS
    if (c->tls) {
        /* Until nothing is left: epoll does not see bytes that are already decrypted. */
        size_t got = 0;
        long n = 1;
        while (got < size) {
            n = outcome(c, SSL_read(c->tls, into + got, (int)(size - got)));
            if (n <= 0) break;
            got += (size_t)n;
        }
        return got ? (long)got : n;
    }
#endif
    ssize_t n = recv(c->fd, into, size, 0);
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EINTR ? -1 : -2;
}

long wire_write(conn *c, const uint8_t *from, size_t size) {
#ifdef WITH_TLS
    if (c->tls) return outcome(c, SSL_write(c->tls, from, (int)size));
#endif
    ssize_t n = send(c->fd, from, size, MSG_NOSIGNAL);
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EINTR ? -1 : -2;
}

void wire_end(conn *c) {
#ifdef WITH_TLS
    if (c->tls) SSL_free(c->tls);
    c->tls = NULL;
#endif
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

#ifdef WITH_ZLIB
#include <zlib.h>

/* Each message by itself: there is no context takeover (RFC 7692). */
long inflate_message(const uint8_t *from, size_t size, uint8_t *into, size_t room) {
    static z_stream z;
    static int ready;
    if (!ready && inflateInit2(&z, -15) != Z_OK) return -1;
    ready = 1;
    inflateReset(&z);
    z.next_out = into;
    z.avail_out = (uInt)room;
    z.next_in = (Bytef *)from;
    z.avail_in = (uInt)size;
    int status = inflate(&z, Z_SYNC_FLUSH);
    if (status == Z_OK || status == Z_BUF_ERROR) {
        static Bytef tail[4] = {0, 0, 0xFF, 0xFF};
        z.next_in = tail;
        z.avail_in = 4;
        status = inflate(&z, Z_SYNC_FLUSH);
    }
    if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END) return -1;
    return (long)(room - z.avail_out);
}
#else
long inflate_message(const uint8_t *from, size_t size, uint8_t *into, size_t room) {
    (void)from, (void)size, (void)into, (void)room;
    return -1;
}
#endif

/* What the load client is made of: histogram, message layout, one connection, its bytes.
 *
 * A message is text: 8 digits sequence number, 24 digits CLOCK_MONOTONIC nanoseconds,
 * 8 digits sender, then words up to the size agreed on (peers/contract.py makes the same).
 * With --socketio it is the one argument of an event, in JSON: something stands before it
 * and behind it, and its quotation marks are escaped.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HEAD 40   /* bytes of a message in front of the words */
#define KEPT 128  /* bytes kept of a message that came in pieces: its head, or a whole ping */

typedef struct {
    uint32_t count[64 * 64];
    uint64_t total, max;
} histogram;

/* 64 steps for each power of two: 1.6 % wide, as in HdrHistogram. */
static inline void histogram_add(histogram *h, uint64_t ns) {
    unsigned step = ns < 64 ? (unsigned)ns : (unsigned)(63 - __builtin_clzll(ns));
    if (ns >= 64) step = (step - 5) * 64 + ((ns >> (step - 6)) & 63);
    h->count[step]++;
    h->total++;
    if (ns > h->max) h->max = ns;
}

static inline double histogram_ms(const histogram *h, double share) {
    uint64_t wanted = (uint64_t)(h->total * share), seen = 0;
    for (unsigned step = 0; step < 64 * 64; step++) {
        seen += h->count[step];
        if (seen > wanted) {
            uint64_t ns = step < 64 ? step : (64ULL + step % 64) << (step / 64 - 1);
            return ns / 1e6;
        }
    }
    return h->max / 1e6;
}

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

/* Eight decimal digits at once; the first is the lowest byte (little-endian). */
static inline uint64_t digits8(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    v -= 0x3030303030303030ULL;
    v = v * 10 + (v >> 8);
    return (((v & 0x000000FF000000FFULL) * 0x000F424000000064ULL) +
            (((v >> 16) & 0x000000FF000000FFULL) * 0x0000271000000001ULL)) >> 32;
}

static inline void put_digits(uint8_t *p, unsigned width, uint64_t value) {
    while (width--) {
        p[width] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
}

/* Words that compress about as chat or JSON does; the same in contract.py. */
static inline void put_words(uint8_t *p, size_t size) {
    static const char *const words[16] = {
        "{\"type\":", "\"position\",", "\"x\":", "12.5,", "\"y\":", "-3.75,", "\"name\":",
        "\"ada\",", "\"text\":", "\"hello ", "there\",", "\"room\":", "\"table 7\"", "},",
        "1024,", "true,"};
    uint32_t state = 1;
    size_t at = 0;
    while (at < size) {
        state = (state * 1103515245u + 12345u) & 0x7FFFFFFFu;
        const char *word = words[(state >> 16) & 15];
        size_t n = strlen(word);
        if (n > size - at) n = size - at;
        memcpy(p + at, word, n);
        at += n;
    }
}

enum state { NONE, CONNECTING, SECURING, SHAKING, GREETING, JOINING, OPEN, STALLED, LOST };

typedef struct {
    int fd, index;
    uint8_t state, wants_out;
    void *tls;
    /* The frame that is being read. */
    uint8_t header[10], header_have, opcode, deflated;
    uint64_t size, have;
    uint8_t kept[KEPT];
    uint8_t *body; /* the upgrade's response, or a compressed message */
    /* The stream, and what was seen of it. */
    uint64_t sent, got;
    uint64_t next;      /* publish, echo: the sequence number that must come */
    uint32_t *senders;  /* storm: the same for each sender */
    uint64_t hash;      /* storm: of the order */
    uint8_t ended;      /* publish: the last one has come */
    /* What the socket has not taken yet. */
    uint8_t *out;
    size_t out_at, out_end, out_size;
} conn;

/* wire.c: sockets, with or without TLS.  Bytes, 0 at the end, -1 again later, -2 broken. */
int wire_tls_start(conn *c);
int wire_tls_shake(conn *c); /* 1 done, -1 again, -2 broken */
long wire_read(conn *c, uint8_t *into, size_t size);
long wire_write(conn *c, const uint8_t *from, size_t size);
void wire_end(conn *c);
long inflate_message(const uint8_t *from, size_t size, uint8_t *into, size_t room);

/* frames.c: from bytes to messages. */
void feed(conn *c, const uint8_t *data, size_t n);
extern uint8_t *expected_words; /* of a message as large as --size, and all behind them */
extern size_t message_size;     /* on the wire, without the frame's header */
extern size_t head_size;        /* all in front of the words */

/* load.c: told of what has come; `head` has the first head_size bytes, or all of fewer. */
void on_message(conn *c, const uint8_t *head, uint64_t size);
void on_control(conn *c, int opcode, const uint8_t *payload, size_t size);
void on_broken(conn *c, const char *why);

#endif

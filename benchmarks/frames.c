/* The reading half of the load client: from bytes, however they are split, to messages.
 *
 * Whole frames of the expected size are checked in place; everything else goes piece by piece
 * through the state in `conn`.  Only heads and compressed messages in pieces are copied.  Every
 * byte is compared with the expected one.
 */
#include "load.h"

uint8_t *expected_words;
size_t message_size, head_size;

/* Return the size that the header announces; 0 while the header is incomplete. */
static int header_complete(conn *c) {
    if (c->header_have < 2) return 0;
    unsigned code = c->header[1] & 0x7F;
    unsigned need = code == 126 ? 4 : code == 127 ? 10 : 2;
    if (c->header_have < need) return 0;
    c->size = code;
    if (code >= 126) {
        c->size = 0;
        for (unsigned i = 2; i < need; i++) c->size = c->size << 8 | c->header[i];
    }
    c->opcode = c->header[0] & 0x0F;
    c->deflated = (c->header[0] & 0x40) != 0;
    c->have = 0;
    if (c->header[1] & 0x80) on_broken(c, "masked frame from a server");
    if (c->opcode < 8 && c->size > message_size + 1024) on_broken(c, "message too large");
    if (!(c->header[0] & 0x80)) on_broken(c, "fragmented message");
    return 1;
}

static int words_match(const uint8_t *data, uint64_t from, uint64_t to) {
    return to <= message_size && !memcmp(data, expected_words + from - head_size, to - from);
}

/* Inflate equal bytes once for all members: inflating takes a hundred times as long as comparing
 * and would make this program the bottleneck. */
#define SEEN 4096
static struct seen {
    uint8_t *body;
    uint64_t size, plain_size;
    uint8_t head[KEPT];
} seen[SEEN];

static void on_compressed(conn *c, const uint8_t *body, uint64_t size) {
    static uint8_t *plain;
    uint64_t hash = size;
    for (uint64_t at = 0; at + 8 <= size; at += 8) {
        uint64_t part;
        memcpy(&part, body + at, 8);
        hash = (hash ^ part) * 0x9E3779B97F4A7C15ULL;
    }
    struct seen *one = &seen[hash >> 32 & (SEEN - 1)];
    if (one->size != size || memcmp(one->body, body, size)) {
        if (!plain) plain = malloc(message_size + 1);
        long inflated = inflate_message(body, size, plain, message_size + 1);
        /* on_message handles other sizes. */
        if (inflated < 0 || ((size_t)inflated == message_size &&
                             !words_match(plain + head_size, head_size, message_size))) {
            on_broken(c, "compressed message with other content");
            return;
        }
        one->body = realloc(one->body, size);
        memcpy(one->body, body, size);
        memcpy(one->head, plain, head_size);
        one->size = size;
        one->plain_size = (uint64_t)inflated;
    }
    on_message(c, one->head, one->plain_size);
}

static void frame_done(conn *c) {
    uint8_t *body = c->body;
    c->header_have = 0;
    c->body = NULL;
    if (c->opcode >= 8) on_control(c, c->opcode, c->kept, c->size);
    else if (!c->deflated) on_message(c, c->kept, c->size);
    else if (body) on_compressed(c, body, c->size);
    free(body);
}

static size_t take_payload(conn *c, const uint8_t *data, size_t n) {
    if (n > c->size - c->have) n = c->size - c->have;
    uint64_t end = c->have + n;
    if (c->deflated) {
        if (!c->body) c->body = malloc(c->size + 4);
        memcpy(c->body + c->have, data, n);
    } else {
        if (c->have < KEPT) {
            size_t keep = KEPT - c->have < n ? KEPT - c->have : n;
            memcpy(c->kept + c->have, data, keep);
        }
        if (c->opcode < 8 && c->size == message_size && end > head_size) {
            uint64_t from = c->have > head_size ? c->have : head_size;
            if (!words_match(data + (from - c->have), from, end))
                on_broken(c, "message with other content");
        }
    }
    c->have = end;
    return n;
}

void feed(conn *c, const uint8_t *data, size_t n) {
    /* The usual header. */
    uint8_t usual[4] = {0x81, (uint8_t)message_size};
    size_t usual_size = 2;
    if (message_size > 125) {
        usual[1] = 126;
        usual[2] = (uint8_t)(message_size >> 8);
        usual[3] = (uint8_t)message_size;
        usual_size = 4;
    }
    while (n && c->state != LOST) {
        if (!c->header_have && n >= usual_size + message_size && message_size < 65536 &&
            !memcmp(data, usual, usual_size)) {
            const uint8_t *payload = data + usual_size;
            if (!words_match(payload + head_size, head_size, message_size)) {
                on_broken(c, "message with other content");
                return;
            }
            on_message(c, payload, message_size);
            data += usual_size + message_size;
            n -= usual_size + message_size;
        } else if (c->header_have >= 2 && c->have < c->size) {
            if (c->deflated && !c->have && n >= c->size) {
                uint64_t size = c->size;
                c->header_have = 0;
                on_compressed(c, data, size);
                data += size;
                n -= size;
                continue;
            }
            size_t took = take_payload(c, data, n);
            data += took;
            n -= took;
            if (c->have == c->size && c->state != LOST) frame_done(c);
        } else {
            c->header[c->header_have++] = *data++;
            n--;
            c->size = c->have = 0;
            if (header_complete(c) && !c->size && c->state != LOST) frame_done(c);
        }
    }
}

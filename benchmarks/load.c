/* The load client: N WebSocket clients in one thread, the same for every server.
 *
 * load --port P --mode echo|storm|publish|idle|parse --clients N [--window K] [--size BYTES]
 *      [--seconds S] [--warmup S] [--drain S] [--stalled M] [--rate R] [--turns T]
 *      [--tls] [--deflate] [--socketio] [--session]
 *
 *   echo     each client keeps K messages in flight; each must come back, in order
 *            (with --rate: the clients take turns, R messages a second in all)
 *   storm    each client sends its next message when its last came back, and gets all messages
 *   publish  the clients only listen; client 0 sends "go" and "stop"
 *   idle     the clients only stay connected
 *   parse    no server: the speed of this program, and the same result for every split
 *
 * --socketio speaks to python-socketio: a WebSocket with packets of Engine.IO 4 and Socket.IO 5,
 * of which it knows only the necessary ones.
 *
 * --session speaks to hubthread's sessions: each client says hello, which has an answer.
 *
 * --turns cuts the measured time into turns of T seconds (0, 1, 2, 0, 1 and so on).  Each kind of
 * turn has a histogram of its own, for three conditions within one run.  The first quarter of each
 * turn is left out.
 *
 * In storm and publish a server sends "joined" to each new member; nothing starts before all
 * clients have got it.  The program prints a line of JSON at each phase (opened, measuring,
 * measured), and the result.  Latency is taken when the bytes are read, with one clock for both
 * processes: one way in storm and publish, the round trip in echo.  Frames and latencies are
 * counted between measuring and measured.  The streams are checked from the first frame to the
 * last, which is waited for up to --drain seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum mode { ECHO, STORM, PUBLISH, IDLE, PARSE };
static const char *const modes[] = {"echo", "storm", "publish", "idle", "parse"};

#define READ_SIZE (256 * 1024)
#define AT_ONCE 64      /* concurrent handshakes: fewer than any listen queue */
#define GIVE_UP 15.0    /* seconds without a new connection */
#define PORTS_EACH 5000 /* connections from one source address */
#define MARK 64         /* messages between two comparisons of the order */

static enum mode mode = PARSE;
static int port, clients = 1, window = 1, stalled, use_tls, deflate, socketio, session;
static double seconds = 4, warmup = 0.5, drain = 15, rate, turns;

static conn *conns;
static int poller, opened, joined, shaking, failed;
static uint8_t *reads;
static histogram latencies, of_turn[3], *also;
static int measuring, sending;
static uint64_t frames, bytes, total_sent, clock_now;
static double opening;
static uint64_t lost, missing, repeated, broken, disordered, incomplete, ended;
static uint64_t *marks, marks_size, marks_set;
static const char *first_fault = "";
static const uint8_t mask[4] = {0x37, 0xFA, 0x21, 0x3D};
static uint8_t *masked_words;
static const char *before = "", *behind = ""; /* the bytes around a message */

static double now(void) { return now_ns() / 1e9; }

static void watch(conn *c, int operation, int out) {
    struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0u), .data.ptr = c};
    epoll_ctl(poller, operation, c->fd, &e);
    c->wants_out = (uint8_t)out;
}

static void drop(conn *c) {
    if (c->state == LOST) return;
    if (c->state < JOINING) {
        failed++;
        shaking--;
    } else if (c->state != STALLED) {
        lost++;
    }
    c->state = LOST;
    wire_end(c);
}

void on_broken(conn *c, const char *why) {
    broken++;
    if (!*first_fault) first_fault = why;
    drop(c);
}

/* Sending. */

static void flush(conn *c) {
    while (c->out_at < c->out_end) {
        long n = wire_write(c, c->out + c->out_at, c->out_end - c->out_at);
        if (n == -2 || n == 0) {
            drop(c);
            return;
        }
        if (n < 0) break;
        c->out_at += (size_t)n;
    }
    if (c->out_at == c->out_end) c->out_at = c->out_end = 0;
    if (c->wants_out != (c->out_end > 0)) watch(c, EPOLL_CTL_MOD, c->out_end > 0);
}

static uint8_t *out_space(conn *c, size_t n) {
    if (c->out_end + n > c->out_size) {
        c->out_size = (c->out_end + n) * 2;
        c->out = realloc(c->out, c->out_size);
    }
    uint8_t *p = c->out + c->out_end;
    c->out_end += n;
    return p;
}

static void put_small(conn *c, uint8_t opcode, const uint8_t *payload, size_t n) {
    uint8_t *p = out_space(c, n + 6);
    p[0] = 0x80 | opcode;
    p[1] = 0x80 | (uint8_t)n;
    memcpy(p + 2, mask, 4);
    for (size_t i = 0; i < n; i++) p[6 + i] = payload[i] ^ mask[i & 3];
}

static void put_message(conn *c) {
    size_t n = message_size, header = n <= 125 ? 6 : n < 65536 ? 8 : 14;
    uint8_t *p = out_space(c, header + n);
    p[0] = 0x81;
    p[1] = 0x80 | (n <= 125 ? (uint8_t)n : n < 65536 ? 126 : 127);
    for (size_t i = 2; i < header - 4; i++) p[i] = (uint8_t)(n >> 8 * (header - 5 - i));
    memcpy(p + header - 4, mask, 4);
    p += header;
    uint8_t head[KEPT], *digits = head + head_size - HEAD;
    memcpy(head, before, head_size - HEAD);
    put_digits(digits, 8, ++c->sent);
    put_digits(digits + 8, 24, now_ns());
    put_digits(digits + 32, 8, (uint64_t)c->index);
    for (size_t i = 0; i < head_size; i++) p[i] = head[i] ^ mask[i & 3];
    memcpy(p + head_size, masked_words, n - head_size);
    total_sent++;
}

static void put_text(conn *c, const char *text) {
    char whole[KEPT];
    int n = snprintf(whole, sizeof whole, "%s%s%s", before, text, behind);
    put_small(c, 1, (const uint8_t *)whole, (size_t)n);
}

/* Receiving. */

static void let_in(conn *c) {
    c->state = mode == STORM || mode == PUBLISH ? JOINING : OPEN;
    joined += c->state == OPEN;
    shaking--;
    opened++;
}

/* Handle packets of Engine.IO and Socket.IO; return true if it was one. */
static int is_greeting(conn *c, const uint8_t *text, uint64_t size) {
    if (size >= 2 && !memcmp(text, "42", 2)) return 0;
    if (size == 1 && *text == '2') put_small(c, 1, (const uint8_t *)"3", 1); /* ping: pong */
    else if (c->state == GREETING && size > 2 && !memcmp(text, "40", 2)) let_in(c);
    else if (c->state != GREETING || *text != '0') on_broken(c, "another packet than expected");
    return 1;
}

void on_control(conn *c, int opcode, const uint8_t *payload, size_t n) {
    if (opcode == 9 && n <= 125) put_small(c, 10, payload, n);
    else if (opcode == 8) drop(c);
}

static void compare_order(conn *c, uint32_t sender, uint64_t sequence) {
    c->hash = (c->hash ^ ((uint64_t)sender << 32 | sequence)) * 0x9E3779B97F4A7C15ULL;
    c->hash ^= c->hash >> 29;
    if (c->got % MARK) return;
    uint64_t mark = c->got / MARK;
    if (mark >= marks_size) {
        marks_size = (mark + 1) * 2;
        marks = realloc(marks, marks_size * sizeof *marks);
    }
    if (mark > marks_set) {
        marks[mark] = c->hash;
        marks_set = mark;
    } else if (marks[mark] != c->hash) {
        disordered++;
    }
}

static void check_next(uint64_t sequence, uint64_t expected) {
    if (sequence > expected) missing += sequence - expected;
    else if (sequence < expected) repeated++;
}

void on_message(conn *c, const uint8_t *head, uint64_t size) {
    if (socketio && is_greeting(c, head, size)) return;
    if (session && c->state == GREETING) {
        if (size > 20 && !memcmp(head, "{\"type\":\"hub:hello\"", 19)) let_in(c);
        else on_broken(c, "no answer to the hello");
        return;
    }
    size_t at = head_size - HEAD;
    if (memcmp(head, before, size < at ? (size_t)size : at)) {
        on_broken(c, "message that begins otherwise");
        return;
    }
    head += at;
    if (c->state == JOINING && size == at + 6 + strlen(behind) && !memcmp(head, "joined", 6)) {
        c->state = OPEN;
        joined++;
        return;
    }
    if (size != message_size) {
        on_broken(c, "message of another size");
        return;
    }
    uint64_t sequence = digits8(head), sender = digits8(head + 32);
    uint64_t sent = digits8(head + 8) * 10000000000000000ULL + digits8(head + 16) * 100000000ULL +
                    digits8(head + 24);
    c->got++;
    if (measuring) {
        frames++;
        uint64_t took = clock_now > sent ? clock_now - sent : 0;
        histogram_add(&latencies, took);
        if (also) histogram_add(also, took);
    }
    if (mode == STORM) {
        if (sender >= (uint64_t)clients) {
            on_broken(c, "unknown sender");
            return;
        }
        check_next(sequence, ++c->senders[sender]);
        c->senders[sender] = (uint32_t)sequence;
        compare_order(c, (uint32_t)sender, sequence);
        if (sender == (uint64_t)c->index && sending) put_message(c);
        return;
    }
    check_next(sequence, c->next);
    c->next = sequence + 1;
    if (mode == ECHO) {
        if (sender != (uint64_t)c->index) on_broken(c, "somebody else's message");
        else if (sending && !rate) put_message(c);
    } else if (mode == PUBLISH && sender == 1) {
        c->ended = 1;
        ended++;
    }
}

/* Connecting. */

static const uint8_t hello[] = "{\"type\":\"hub:hello\",\"v\":1}";

static void begin(conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int yes = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (c->index >= clients - stalled) {
        /* Few bytes should fit between the server and a client that does not read. */
        int small = 2048, segment = 536;
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
    struct sockaddr_in from = {.sin_family = AF_INET}, to = from;
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    from.sin_addr.s_addr = htonl(0x7F000001u + (unsigned)(c->index / PORTS_EACH));
    bind(c->fd, (struct sockaddr *)&from, sizeof from);
    to.sin_addr.s_addr = htonl(0x7F000001u);
    to.sin_port = htons((uint16_t)port);
    c->state = CONNECTING;
    c->next = 1;
    shaking++;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) drop(c);
    else watch(c, EPOLL_CTL_ADD, 1);
}

static void ask(conn *c) {
    char text[512];
    int n = snprintf(text, sizeof text,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s\r\n",
                     socketio ? "/socket.io/?EIO=4&transport=websocket" : "/", port,
                     deflate ? "Sec-WebSocket-Extensions: permessage-deflate; "
                               "server_no_context_takeover; client_no_context_takeover\r\n"
                             : "",
                     session ? "Sec-WebSocket-Protocol: hubthread.1\r\n" : "");
    memcpy(out_space(c, (size_t)n), text, (size_t)n);
    c->state = SHAKING;
    c->body = calloc(1, 4096);
    flush(c);
}

/* Read the response to the upgrade; frames may follow it. */
static void answered(conn *c, const uint8_t *data, size_t n) {
    while (n && c->have < 4095) {
        c->body[c->have++] = *data++;
        n--;
        if (c->have < 4 || memcmp(c->body + c->have - 4, "\r\n\r\n", 4)) continue;
        const char *text = (char *)c->body;
        int good = !strncmp(text, "HTTP/1.1 101 ", 13) &&
                   strstr(text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") &&
                   !strstr(text, "permessage-deflate") == !deflate;
        free(c->body);
        c->body = NULL;
        c->have = 0;
        if (!good) {
            first_fault = "the upgrade was refused, or without what was asked for";
            drop(c);
            return;
        }
        if (socketio) {
            c->state = GREETING;
            put_small(c, 1, (const uint8_t *)"40", 2);
        } else if (session) {
            c->state = GREETING;
            put_small(c, 1, hello, sizeof hello - 1);
        } else {
            let_in(c);
        }
        feed(c, data, n);
        return;
    }
    if (n) drop(c);
}

static void on_event(conn *c, uint32_t events) {
    if (c->state == LOST) return;
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error || (use_tls && wire_tls_start(c) != 1)) {
            drop(c);
            return;
        }
        c->state = SECURING;
        if (!use_tls) ask(c);
        events &= ~(uint32_t)EPOLLIN;
    }
    if (c->state == SECURING) {
        int done = wire_tls_shake(c);
        if (done == -1) watch(c, EPOLL_CTL_MOD, 0);
        else if (done == 1) ask(c);
        else drop(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        long n = wire_read(c, reads, READ_SIZE);
        clock_now = now_ns();
        if (n > 0) {
            bytes += measuring ? (uint64_t)n : 0;
            if (c->state == SHAKING) answered(c, reads, (size_t)n);
            else feed(c, reads, (size_t)n);
        } else if (n != -1) {
            drop(c);
        }
    }
    if (c->state != LOST && c->out_end) flush(c);
}

static void turn(double until) {
    struct epoll_event ready[512];
    double left = until - now();
    int wait = left <= 0 ? 0 : left > 0.1 ? 100 : (int)(left * 1000) + 1;
    int n = epoll_wait(poller, ready, 512, wait);
    for (int i = 0; i < n; i++) on_event(ready[i].data.ptr, ready[i].events);
}

static void say(const char *phase, double took) {
    printf("{\"phase\":\"%s\",\"opened\":%d,\"seconds\":%.4f}\n", phase, opened, took);
    fflush(stdout);
}

static int open_all(void) {
    double start = now(), last = start;
    int begun = 0, seen = 0;
    while (joined < clients - failed - (int)lost && now() - last < GIVE_UP) {
        while (begun < clients && shaking < AT_ONCE) begin(&conns[begun++]);
        turn(now() + 0.1);
        if (opened + joined != seen) {
            seen = opened + joined;
            last = now();
        }
    }
    opening = last - start;
    say("opened", opening);
    return joined == clients;
}

static int finished(void) {
    for (int i = 0; i < clients; i++) {
        conn *c = &conns[i];
        if (c->state != OPEN) continue;
        if (mode == ECHO && c->got < c->sent) return 0;
        if (mode == STORM && c->got < total_sent) return 0;
        if (mode == PUBLISH && !c->ended) return 0;
    }
    return 1;
}

static void tell(conn *c, const char *text) {
    if (c->state != OPEN) return;
    put_text(c, text);
    flush(c);
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Read until then, and send what is due. */
static void run(double until) {
    static double due;
    static int next;
    while (now() < until) {
        if (!rate || mode != ECHO) {
            turn(until);
            continue;
        }
        for (due = due ? due : now(); now() >= due; due += 1 / rate) {
            conn *c = &conns[next++ % clients];
            if (c->state != OPEN) continue;
            put_message(c);
            flush(c);
        }
        turn(due < until ? due : until);
    }
}

static void measure(double until) {
    for (int number = 0; turns && now() < until; number++) {
        static const char *const names[3] = {"turn 0", "turn 1", "turn 2"};
        double start = now();
        also = NULL;
        say(names[number % 3], start);
        run(start + turns / 4);
        also = &of_turn[number % 3];
        run(start + turns);
    }
    run(until);
    also = NULL;
}

static void drive(void) {
    sending = mode == ECHO || mode == STORM;
    for (int i = clients - stalled; i < clients; i++) {
        conns[i].state = STALLED;
        epoll_ctl(poller, EPOLL_CTL_DEL, conns[i].fd, NULL);
    }
    for (int i = 0; sending && !rate && i < clients; i++) {
        if (conns[i].state != OPEN) continue;
        for (int k = 0; k < (mode == ECHO ? window : 1); k++) put_message(&conns[i]);
        flush(&conns[i]);
    }
    if (mode == PUBLISH) tell(&conns[0], "go");
    run(now() + warmup);
    measuring = 1;
    say("measuring", warmup);
    double start = now(), used = cpu();
    measure(start + seconds);
    double took = now() - start;
    measuring = 0;
    used = cpu() - used;
    say("measured", took);
    sending = 0;
    if (mode == PUBLISH) tell(&conns[0], "stop");
    start = now();
    while (mode != IDLE && !finished() && now() < start + drain) turn(now() + 0.05);
    for (int i = 0; i < clients; i++) {
        conn *c = &conns[i];
        if (c->state != OPEN) continue;
        incomplete += (mode == ECHO && c->got != c->sent) || (mode == PUBLISH && !c->ended) ||
                      (mode == STORM && !lost && c->got != total_sent);
        disordered += mode == STORM && !lost && !incomplete && c->hash != conns[0].hash;
    }
    printf("{\"phase\":\"result\",\"seconds\":%.4f,\"frames\":%llu,\"rate\":%.1f,"
           "\"bytes\":%llu,\"open_s\":%.4f,"
           "\"p50_ms\":%.4f,\"p90_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f,"
           "\"turn0_p50_ms\":%.4f,\"turn0_p99_ms\":%.4f,\"turn1_p50_ms\":%.4f,"
           "\"turn1_p99_ms\":%.4f,\"turn2_p50_ms\":%.4f,\"turn2_p99_ms\":%.4f,"
           "\"opened\":%d,\"failed\":%d,\"lost\":%llu,\"missing\":%llu,\"repeated\":%llu,"
           "\"broken\":%llu,\"disordered\":%llu,\"incomplete\":%llu,\"drain_s\":%.3f,"
           "\"client_cpu\":%.3f,\"fault\":\"%s\"}\n",
           took, (unsigned long long)frames, (double)frames / took,
           (unsigned long long)bytes, opening, histogram_ms(&latencies, 0.5), histogram_ms(&latencies, 0.9),
           histogram_ms(&latencies, 0.99), (double)latencies.max / 1e6,
           histogram_ms(&of_turn[0], 0.5), histogram_ms(&of_turn[0], 0.99),
           histogram_ms(&of_turn[1], 0.5), histogram_ms(&of_turn[1], 0.99),
           histogram_ms(&of_turn[2], 0.5), histogram_ms(&of_turn[2], 0.99), opened, failed,
           (unsigned long long)lost, (unsigned long long)missing, (unsigned long long)repeated,
           (unsigned long long)broken, (unsigned long long)disordered,
           (unsigned long long)incomplete, now() - start, used / took, first_fault);
}

/* Parse generated frames: whole reads against the clock, then every split. */
static int parse(void) {
    enum { FRAMES = 2000 };
    size_t header = message_size <= 125 ? 2 : 4, at = head_size - HEAD, one = header + message_size, all = one * FRAMES;
    uint8_t *data = malloc(all);
    conn c = {.state = OPEN, .next = 1};
    uint64_t made = 0;
    double spent = 0;
    srand(1);
    for (int round = 0; spent < seconds; round++) {
        for (uint8_t *p = data; p < data + all; p += one) {
            uint8_t *head = p + header + at;
            memcpy(p + header, before, at);
            p[0] = 0x81;
            p[1] = header == 2 ? (uint8_t)message_size : 126;
            if (header == 4) p[2] = (uint8_t)(message_size >> 8), p[3] = (uint8_t)message_size;
            put_digits(head, 8, ++made);
            put_digits(head + 8, 24, now_ns());
            put_digits(head + 32, 8, 0);
            memcpy(head + HEAD, expected_words, message_size - head_size);
        }
        clock_now = now_ns();
        measuring = round > 0;
        double start = now();
        for (size_t at = 0, n; at < all; at += n) {
            n = round ? READ_SIZE : 1 + (size_t)rand() % (2 * one);
            if (n > all - at) n = all - at;
            feed(&c, data + at, n);
        }
        if (round) spent += now() - start;
    }
    printf("{\"phase\":\"result\",\"rate\":%.0f,\"good\":%s}\n", (double)frames / spent,
           c.got == made && !missing && !repeated && !broken ? "true" : "false");
    return 0;
}

static double option(int argc, char **argv, const char *name, double otherwise) {
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name)) return i + 1 < argc ? strtod(argv[i + 1], NULL) : 1;
    return otherwise;
}

static int flag(int argc, char **argv, const char *name) {
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name)) return 1;
    return 0;
}

/* The bytes that all messages have in common. */
static void lay_out(void) {
    size_t words = message_size - HEAD, n = 0;
    uint8_t *plain = malloc(words);
    put_words(plain, words);
    if (socketio) {
        before = "42[\"message\",\"";
        behind = "\"]";
    }
    expected_words = malloc(2 * words + 8);
    for (size_t i = 0; i < words; i++) {
        if (socketio && plain[i] == '"') expected_words[n++] = '\\';
        expected_words[n++] = plain[i];
    }
    memcpy(expected_words + n, behind, strlen(behind));
    n += strlen(behind);
    head_size = strlen(before) + HEAD;
    message_size = head_size + n;
    masked_words = malloc(n);
    for (size_t i = 0; i < n; i++)
        masked_words[i] = expected_words[i] ^ mask[(head_size + i) & 3];
    free(plain);
}

int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the runner */
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], "--mode"))
            for (int m = ECHO; m <= PARSE; m++)
                if (!strcmp(argv[i + 1], modes[m])) mode = (enum mode)m;
    port = (int)option(argc, argv, "--port", 0);
    clients = (int)option(argc, argv, "--clients", 1);
    window = (int)option(argc, argv, "--window", 1);
    stalled = (int)option(argc, argv, "--stalled", 0);
    seconds = option(argc, argv, "--seconds", seconds);
    warmup = option(argc, argv, "--warmup", warmup);
    drain = option(argc, argv, "--drain", drain);
    rate = option(argc, argv, "--rate", 0);
    turns = option(argc, argv, "--turns", 0);
    message_size = (size_t)option(argc, argv, "--size", 100);
    use_tls = flag(argc, argv, "--tls");
    deflate = flag(argc, argv, "--deflate");
    socketio = flag(argc, argv, "--socketio");
    session = flag(argc, argv, "--session");
    if (clients < 1 || message_size <= HEAD || (mode != PARSE && !port)) {
        fprintf(stderr, "load: needs --port, and a --size above %d\n", HEAD);
        return 2;
    }
    alarm((unsigned)(seconds + warmup + drain) + 300); /* never hang */
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    reads = malloc(READ_SIZE);
    lay_out();
    if (mode == PARSE) return parse();
    poller = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc((size_t)clients, sizeof *conns);
    for (int i = 0; i < clients; i++) {
        conns[i].fd = -1;
        conns[i].index = i;
        if (mode == STORM) conns[i].senders = calloc((size_t)clients, sizeof(uint32_t));
    }
    if (!open_all() && mode != IDLE) {
        printf("{\"phase\":\"result\",\"error\":\"%d of %d clients opened%s%s\"}\n", joined,
               clients, *first_fault ? ": " : "", first_fault);
        return 0;
    }
    drive();
    for (int i = 0; i < clients; i++) wire_end(&conns[i]);
    return 0;
}

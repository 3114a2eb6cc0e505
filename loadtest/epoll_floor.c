/* The floor under every server of bench_ingest: one thread, epoll, one read for each readiness; frames are unmasked
   and appended to a buffer. No library, no checks. Says its port on standard output and runs until it is killed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN_BYTES = 1 << 16, KEPT_BYTES = 1 << 20, EVENTS = 512 };

struct call {
    int fd, upgraded;
    size_t in_bytes, kept_bytes;
    unsigned char in[IN_BYTES];
    unsigned char *kept;
};

static const char ACCEPTED[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

static void unmask(unsigned char *to, const unsigned char *from, size_t bytes, const unsigned char *mask) {
    uint64_t wide;
    uint32_t narrow;
    size_t at = 0;
    memcpy(&narrow, mask, 4);
    wide = (uint64_t)narrow << 32 | narrow;
    for (; at + 8 <= bytes; at += 8) {
        uint64_t word;
        memcpy(&word, from + at, 8);
        word ^= wide;
        memcpy(to + at, &word, 8);
    }
    for (; at < bytes; at++) to[at] = from[at] ^ mask[at % 4];
}

static void send_back(struct call *call, const unsigned char *text, size_t bytes) {
    unsigned char frame[128] = {0x81, (unsigned char)bytes};
    memcpy(frame + 2, text, bytes);
    if (write(call->fd, frame, bytes + 2) < 0) perror("write");
}

/* Bytes of `in` that whole frames have used up. */
static size_t take_frames(struct call *call) {
    size_t at = 0;
    while (call->in_bytes - at >= 2) {
        const unsigned char *frame = call->in + at;
        size_t payload = frame[1] & 0x7f, header = 6;
        if (payload == 126) {
            if (call->in_bytes - at < 4) break;
            payload = (size_t)frame[2] << 8 | frame[3];
            header = 8;
        }
        if (call->in_bytes - at < header + payload) break;
        if ((frame[0] & 0x0f) == 2) {
            if (call->kept_bytes + payload > KEPT_BYTES) call->kept_bytes = 0;
            unmask(call->kept + call->kept_bytes, frame + header, payload, frame + header - 4);
            call->kept_bytes += payload;
        } else if ((frame[0] & 0x0f) == 1 && payload < 126) {
            unsigned char text[128];
            unmask(text, frame + header, payload, frame + header - 4);
            send_back(call, text, payload);
        }
        at += header + payload;
    }
    return at;
}

static int take_input(struct call *call) {
    ssize_t got = read(call->fd, call->in + call->in_bytes, IN_BYTES - call->in_bytes);
    if (got <= 0) return got < 0 && errno == EAGAIN;
    call->in_bytes += (size_t)got;
    if (!call->upgraded) {
        if (call->in_bytes < 4 || memcmp(call->in + call->in_bytes - 4, "\r\n\r\n", 4)) return 1;
        call->upgraded = 1;
        call->in_bytes = 0;
        return write(call->fd, ACCEPTED, sizeof ACCEPTED - 1) > 0;
    }
    size_t used = take_frames(call);
    call->in_bytes -= used;
    if (call->in_bytes) memmove(call->in, call->in + used, call->in_bytes);
    return 1;
}

int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, ready[EVENTS];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(epoll, ready, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct call *call = ready[i].data.ptr;
            if (call != NULL) {
                if (!take_input(call)) {
                    close(call->fd);
                    free(call->kept);
                    free(call);
                }
                continue;
            }
            int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            call = calloc(1, sizeof *call);
            call->fd = fd;
            call->kept = malloc(KEPT_BYTES);
            event = (struct epoll_event){.events = EPOLLIN, .data.ptr = call};
            epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        }
    }
}

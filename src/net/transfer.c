#include "net/transfer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/container_of.h"

enum { MOST_ARRIVED = 1 << 20 }; /* bytes that wait for `data`; beyond, no more is read */

struct lt_net {
    struct lt_loop *loop;
    CURLM *multi;
    struct lt_timer timer;
    struct net_socket **sockets; /* by descriptor: those that are watched, else NULL */
    curl_socket_t room;
};

/* A descriptor of libcurl's that is watched. */
struct net_socket {
    uv_poll_t poll;
    struct lt_net *net;
    curl_socket_t fd;
};

/* Between libcurl and the loop. */

static void collect_ended(struct lt_net *net)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(net->multi, &left)) != NULL) {
        struct lt_transfer *transfer = NULL;
        CURL *easy = message->easy_handle;
        CURLcode result = message->data.result;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &transfer->status);
        curl_multi_remove_handle(net->multi, easy);
        transfer->result = result;
        transfer->over = true;
        lt_loop_post(net->loop, &transfer->turn);
    }
}

static void act_on(struct lt_net *net, curl_socket_t fd, int events)
{
    int running;
    curl_multi_socket_action(net->multi, fd, events, &running);
    collect_ended(net);
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
    struct net_socket *socket = lt_container_of(poll, struct net_socket, poll);
    int what = (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    act_on(socket->net, socket->fd, status < 0 ? CURL_CSELECT_ERR : what);
}

static void socket_closed(uv_handle_t *handle)
{
    free(lt_container_of((uv_poll_t *)handle, struct net_socket, poll));
}

static struct net_socket *find_socket(const struct lt_net *net, curl_socket_t fd)
{
    return fd >= 0 && fd < net->room ? net->sockets[fd] : NULL;
}

static void unwatch_socket(struct lt_net *net, curl_socket_t fd)
{
    struct net_socket *socket = find_socket(net, fd);
    if (socket == NULL)
        return;
    net->sockets[fd] = NULL;
    uv_poll_stop(&socket->poll);
    uv_close((uv_handle_t *)&socket->poll, socket_closed);
}

static struct net_socket *new_socket(struct lt_net *net, curl_socket_t fd)
{
    struct net_socket *socket = lt_zalloc(sizeof *socket);
    if (uv_poll_init_socket(&net->loop->uv, &socket->poll, fd) != 0) {
        free(socket);
        return NULL;
    }
    uv_unref((uv_handle_t *)&socket->poll);
    socket->poll.data = net->loop;
    socket->net = net;
    socket->fd = fd;
    while (net->room <= fd) {
        net->sockets = lt_realloc(net->sockets, (size_t)(net->room + 64) * sizeof(struct net_socket *));
        memset(net->sockets + net->room, 0, 64 * sizeof(struct net_socket *));
        net->room += 64;
    }
    net->sockets[fd] = socket;
    return socket;
}

/* libcurl: watch this descriptor, or do not any more. */
static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
    struct lt_net *net = arg;
    (void)easy;
    (void)unused;
    if (what == CURL_POLL_REMOVE) {
        unwatch_socket(net, fd);
        return 0;
    }
    struct net_socket *socket = find_socket(net, fd);
    if (socket == NULL)
        socket = new_socket(net, fd);
    if (socket == NULL)
        return -1;
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&socket->poll, events, socket_ready) == 0 ? 0 : -1;
}

/* libcurl: make one. No process that is started here gets it. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)arg;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* libcurl: close it. It does so before it says that it is not to be watched, or without saying it; and the loop must not watch
 * what is closed, or is another by then. */
static int close_socket(void *arg, curl_socket_t fd)
{
    unwatch_socket(arg, fd);
    return close(fd);
}

static void time_over(struct lt_timer *timer)
{
    act_on(lt_container_of(timer, struct lt_net, timer), CURL_SOCKET_TIMEOUT, 0);
}

/* libcurl: call in so many milliseconds; -1: not at all. */
static int set_timer(CURLM *multi, long milliseconds, void *arg)
{
    struct lt_net *net = arg;
    (void)multi;
    if (milliseconds < 0)
        lt_timer_stop(net->loop, &net->timer);
    else
        lt_timer_start(net->loop, &net->timer, lt_loop_tick(net->loop) + (double)milliseconds * 1e-3, time_over);
    return 0;
}

struct lt_net *lt_net_open(struct lt_loop *loop)
{
    static bool ready;
    if (!ready && curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
        return NULL;
    ready = true;
    struct lt_net *net = lt_zalloc(sizeof *net);
    net->loop = loop;
    net->timer = LT_TIMER_INIT;
    net->multi = curl_multi_init();
    if (net->multi == NULL) {
        free(net);
        return NULL;
    }
    curl_multi_setopt(net->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(net->multi, CURLMOPT_SOCKETDATA, net);
    curl_multi_setopt(net->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(net->multi, CURLMOPT_TIMERDATA, net);
    return net;
}

void lt_net_close(struct lt_net *net)
{
    curl_multi_cleanup(net->multi);
    for (curl_socket_t fd = 0; fd < net->room; fd++)
        unwatch_socket(net, fd);
    lt_timer_stop(net->loop, &net->timer);
    free(net->sockets);
    free(net);
}

/* One transfer. */

static void free_transfer(struct lt_transfer *transfer)
{
    if (transfer->started && !transfer->unheld)
        lt_loop_release(transfer->loop);
    curl_easy_cleanup(transfer->easy);
    curl_slist_free_all(transfer->headers);
    lt_buffer_free(&transfer->arrived);
    lt_buffer_free(&transfer->body);
    free(transfer);
}

static void tell_data(struct lt_transfer *transfer)
{
    struct lt_buffer bytes = transfer->arrived;
    transfer->arrived = (struct lt_buffer){0};
    if (transfer->over || transfer->paused)
        lt_loop_post(transfer->loop, &transfer->turn);
    transfer->data(transfer, bytes.data, bytes.len); /* which may cancel it */
    free(bytes.data);
}

/* Tells what there is to tell, one thing a turn: its user may do anything in each. */
static void tell_transfer(struct lt_turn *turn)
{
    struct lt_transfer *transfer = lt_container_of(turn, struct lt_transfer, turn);
    if (transfer->cancelled) {
        free_transfer(transfer);
    } else if (transfer->has_begun && !transfer->told_begun) {
        transfer->told_begun = true;
        lt_loop_post(transfer->loop, turn);
        if (transfer->begun != NULL)
            transfer->begun(transfer);
    } else if (transfer->upload_waits) {
        transfer->upload_waits = false;
        curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
    } else if (transfer->has_sent && !transfer->told_sent) {
        transfer->told_sent = true;
        lt_loop_post(transfer->loop, turn);
        if (transfer->sent != NULL)
            transfer->sent(transfer);
    } else if (transfer->arrived.len > 0) {
        if (!transfer->held_back)
            tell_data(transfer);
    } else if (transfer->over) {
        transfer->done(transfer);
        free_transfer(transfer);
    } else if (transfer->paused && !transfer->held_back) {
        transfer->paused = false;
        curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
    }
}

static size_t body_arrives(char *bytes, size_t one, size_t count, void *arg)
{
    struct lt_transfer *transfer = arg;
    size_t len = one * count;
    if (transfer->data == NULL) {
        if (transfer->body_limit > 0 && transfer->body.len + len > transfer->body_limit)
            return 0;
        lt_buffer_append(&transfer->body, bytes, len);
        return len;
    }
    lt_loop_post(transfer->loop, &transfer->turn);
    if (transfer->arrived.len > MOST_ARRIVED) {
        transfer->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    lt_buffer_append(&transfer->arrived, bytes, len);
    return len;
}

/* The empty line ends the headers; those of a provisional response come before others. */
static size_t header_arrives(char *bytes, size_t one, size_t count, void *arg)
{
    struct lt_transfer *transfer = arg;
    size_t len = one * count;
    if ((bytes[0] == '\r' || bytes[0] == '\n') && !transfer->has_begun) {
        curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &transfer->status);
        transfer->has_begun = transfer->status >= 200 || transfer->status == 101;
        if (transfer->has_begun)
            lt_loop_post(transfer->loop, &transfer->turn);
    }
    return len;
}

static int bytes_moved(void *arg, curl_off_t expected, curl_off_t received, curl_off_t to_send, curl_off_t sent)
{
    struct lt_transfer *transfer = arg;
    (void)expected;
    (void)received;
    (void)to_send;
    if (!transfer->has_sent && transfer->has_begun && sent >= (curl_off_t)transfer->upload_len) {
        transfer->has_sent = true;
        lt_loop_post(transfer->loop, &transfer->turn);
    }
    return 0;
}

static size_t bytes_wanted(char *bytes, size_t one, size_t count, void *arg)
{
    struct lt_transfer *transfer = arg;
    size_t room = one * count, left = transfer->upload_len - transfer->upload_at;
    if (!transfer->has_begun) {
        transfer->upload_waits = true;
        return CURL_READFUNC_PAUSE;
    }
    size_t len = left < room ? left : room;
    memcpy(bytes, transfer->upload + transfer->upload_at, len);
    transfer->upload_at += len;
    return len;
}

void lt_transfer_post(struct lt_transfer *transfer, const char *bytes, size_t len)
{
    lt_transfer_header(transfer, "Expect:"); /* it is not asked whether it may */
    curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDS, bytes);
}

void lt_transfer_upload(struct lt_transfer *transfer, const char *bytes, size_t len)
{
    transfer->upload = bytes;
    transfer->upload_len = len;
    lt_transfer_header(transfer, "Expect:");
    curl_easy_setopt(transfer->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(transfer->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    curl_easy_setopt(transfer->easy, CURLOPT_READFUNCTION, bytes_wanted);
    curl_easy_setopt(transfer->easy, CURLOPT_READDATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_XFERINFOFUNCTION, bytes_moved);
    curl_easy_setopt(transfer->easy, CURLOPT_XFERINFODATA, transfer);
    curl_easy_setopt(transfer->easy, CURLOPT_NOPROGRESS, 0L);
}

struct lt_transfer *lt_transfer_new(struct lt_net *net, void *user)
{
    CURL *easy = curl_easy_init();
    if (easy == NULL)
        lt_out_of_memory();
    struct lt_transfer *transfer = lt_zalloc(sizeof *transfer);
    transfer->net = net;
    transfer->loop = net->loop;
    transfer->user = user;
    transfer->easy = easy;
    transfer->turn.fn = tell_transfer;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->problem);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, body_arrives);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, header_arrives);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, net);
    return transfer;
}

void lt_transfer_header(struct lt_transfer *transfer, const char *line)
{
    struct curl_slist *longer = curl_slist_append(transfer->headers, line);
    if (longer != NULL)
        transfer->headers = longer;
}

void lt_transfer_start(struct lt_transfer *transfer)
{
    transfer->started = true;
    curl_easy_setopt(transfer->easy, CURLOPT_HTTPHEADER, transfer->headers);
    if (!transfer->unheld)
        lt_loop_hold(transfer->loop);
    if (curl_multi_add_handle(transfer->net->multi, transfer->easy) == CURLM_OK)
        return;
    transfer->result = CURLE_OUT_OF_MEMORY;
    transfer->over = true;
    lt_loop_post(transfer->loop, &transfer->turn);
}

/* A turn that is posted cannot be taken back: then that one frees it. */
void lt_transfer_cancel(struct lt_transfer *transfer)
{
    if (transfer->started && !transfer->over)
        curl_multi_remove_handle(transfer->net->multi, transfer->easy);
    transfer->cancelled = true;
    if (!transfer->turn.posted)
        free_transfer(transfer);
}

void lt_transfer_hold_back(struct lt_transfer *transfer, bool hold)
{
    transfer->held_back = hold;
    if (!hold)
        lt_loop_post(transfer->loop, &transfer->turn);
}

/* The loop hears of a signal between two turns: not while a function of C computes or blocks. So libuv's handler is called
 * by one of ours, which starts a timer of the kernel; if the loop does not stop that in time, the timer's signal comes
 * here too, and ends the process. Only functions that are safe in a signal handler are used. */
#include "base/interrupt.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const double UNHEARD = 0.4; /* seconds; Lua is cut in a hundredth */

static volatile sig_atomic_t *hurry;
static atomic_int asked; /* signals to end that came */
static atomic_int first; /* of them: it makes the exit status */
static atomic_bool soon; /* the timer is set to UNHEARD */
static timer_t timer;
static bool has_timer;
static void (*libuv_handler)(int number);

static void set_timer(double seconds)
{
    struct itimerspec in = {.it_value = {.tv_sec = (time_t)seconds}};
    in.it_value.tv_nsec = (long)((seconds - (double)in.it_value.tv_sec) * 1e9);
    if (has_timer)
        timer_settime(timer, 0, &in, NULL);
}

int lt_output_is_broken(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&output, 1, 0) == 1 && (output.revents & (POLLERR | POLLHUP)) != 0;
}

static void end_process(void)
{
    static const char why[] = "ltsh: ended at once, as what runs does not come to an end\n";
    int number = atomic_load(&first);
    if (number != SIGPIPE && write(STDERR_FILENO, why, sizeof why - 1) < 0)
        number = atomic_load(&first); /* nobody to tell */
    _exit(128 + number);
}

static void on_end_signal(int number, siginfo_t *info, void *context)
{
    int none = 0;
    (void)context;
    if (info->si_code == SI_TIMER && info->si_value.sival_ptr == &timer)
        end_process();
    if (number == SIGPIPE && !lt_output_is_broken())
        return; /* another pipe: an error for who writes to it */
    atomic_compare_exchange_strong(&first, &none, number);
    bool again = atomic_fetch_add(&asked, 1) > 0;
    *hurry = 1;
    if ((again || number == SIGPIPE) && !atomic_exchange(&soon, true))
        set_timer(UNHEARD);
    libuv_handler(number);
}

static void make_timer(void)
{
    struct sigevent event;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGTERM;
    event.sigev_value.sival_ptr = &timer;
    has_timer = timer_create(CLOCK_MONOTONIC, &event, &timer) == 0;
}

void lt_interrupt_watch(int number, volatile sig_atomic_t *flag)
{
    struct sigaction action;
    hurry = flag;
    if (!has_timer)
        make_timer();
    sigaction(number, NULL, &action);
    libuv_handler = action.sa_handler;
    action.sa_flags |= SA_SIGINFO;
    action.sa_sigaction = on_end_signal;
    sigaction(number, &action, NULL);
}

void lt_interrupt_heard(void)
{
    atomic_store(&soon, false);
    set_timer(0);
}

void lt_interrupt_after(double seconds)
{
    set_timer(seconds);
}

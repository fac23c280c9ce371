/* The command line. */
#include <assert.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/interrupt.h"
#include "base/log.h"
#include "host.h"
#include "script/values/marks.h"
#include "sqlite/connection.h"
#include "workers/worker.h"

enum { USAGE = 2 };

static void print_help(void)
{
    puts("usage: ltsh [options] script.lua [args...]\n"
         "       ltsh [options] -e CODE\n"
         "       ltsh [options] -          read the script from standard input\n"
         "\n"
         "Runs a Lua script that schedules tasks, and ends when all of them have ended.\n"
         "\n"
         "  -e CODE                  run CODE\n"
         "  -c, --check              compile the script, load and check its module files; run nothing\n"
         "  -w, --watch              take up changes of module files while running (SIGHUP does it once)\n"
         "  -p, --progress           a progress bar of all schedulers on standard error\n"
         "      --console[=[HOST:]PORT]\n"
         "                           a web page of all schedulers (default: 127.0.0.1, from port 8000 on)\n"
         "  -l, --log-level LEVEL    debug, info, warn or error (default: info)\n"
         "      --log-format FORMAT  text or json (default: text)\n"
         "  -h, --help               this text\n"
         "  -v, --version            the version\n"
         "\n"
         "Exit status: 0; 1 after an error in the script; 2 for a wrong command line;\n"
         "128+N when signal N ended it. Failed tasks do not change it.");
}

__attribute__((format(printf, 1, 2))) static int usage_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("ltsh: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\nTry 'ltsh --help'.\n", stderr);
    va_end(args);
    return USAGE;
}

enum { LOG_FORMAT = 256, WORKER, CONSOLE };

static const struct option long_options[] = {
    {"check", no_argument, NULL, 'c'},
    {"watch", no_argument, NULL, 'w'},
    {"progress", no_argument, NULL, 'p'},
    {"console", optional_argument, NULL, CONSOLE},
    {"log-level", required_argument, NULL, 'l'},
    {"log-format", required_argument, NULL, LOG_FORMAT},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'v'},
    {"worker", no_argument, NULL, WORKER}, /* what a host starts: src/workers/process.c */
    {NULL, 0, NULL, 0},
};

/* -1: go on; else the exit status. */
LT_RUNS_LUA static int read_options(int argc, char **argv, struct lt_host_options *options)
{
    int level = LT_LOG_INFO;
    bool json = false;
    bool worker = false;
    int option;
    int at = optind; /* of the argument that is being read */
    opterr = 0;
    for (; (option = getopt_long(argc, argv, "+:e:cwpl:hv", long_options, NULL)) != -1; at = optind) {
        switch (option) {
        case 'e':
            assert(optarg != NULL);
            if (options->code != NULL)
                return usage_error("-e can be given once");
            options->code = optarg;
            break;
        case 'c':
            options->check = true;
            break;
        case 'w':
            options->watch = true;
            break;
        case 'p':
            options->progress = true;
            break;
        case 'l':
            level = lt_log_level_parse(optarg);
            if (level < 0)
                return usage_error("--log-level must be debug, info, warn or error, got '%s'", optarg);
            break;
        case LOG_FORMAT:
            assert(optarg != NULL);
            if (strcmp(optarg, "json") != 0 && strcmp(optarg, "text") != 0)
                return usage_error("--log-format must be text or json, got '%s'", optarg);
            json = strcmp(optarg, "json") == 0;
            break;
        case CONSOLE:
            options->console = optarg != NULL ? optarg : "";
            break;
        case WORKER:
            worker = true;
            break;
        case 'h':
            print_help();
            return 0;
        case 'v':
            puts("ltsh " LTSH_VERSION);
            return 0;
        case ':':
            return usage_error("option '%s' needs a value", argv[at]);
        default:
            return usage_error("unknown option '%s'", argv[at]);
        }
    }
    lt_log_setup((enum lt_log_level)level, json);
    if (worker)
        return lt_process_worker_main();
    if (options->code == NULL && optind == argc)
        return usage_error("which script? (-e CODE runs code, - reads standard input)");
    if (options->code == NULL)
        options->script = argv[optind++];
    options->argc = argc - optind;
    options->argv = argv + optind;
    return -1;
}

/* Started with one of them closed, the next file that is opened would take its place: what is printed would be written to
 * it. */
static void open_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDWR) < 0)
            _exit(1);
}

/* The exit status, when all that was printed should have been written. */
static int finish_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (lt_output_is_broken())
        return status == 0 ? 128 + SIGPIPE : status;
    fputs("ltsh: standard output could not be written, what was printed is lost (is the disk full?)\n", stderr);
    return status == 0 ? 1 : status;
}

/* Whatever mask and actions whoever started it had left: it can be told to end, and a closed pipe is an error where it is
 * written to. */
static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_IGN);
}

LT_RUNS_LUA int main(int argc, char **argv)
{
    struct lt_host_options options = {.program = "ltsh", .interpreter = argv[0]};
    open_standard_files();
    reset_signals();
    lt_sql_setup();
    srand48((long)(uv_hrtime() ^ (uint64_t)getpid() << 32)); /* of the backoff's jitter: hosts must not agree on it */
    int status = read_options(argc, argv, &options);
    return finish_output(status >= 0 ? status : lt_host_run(&options));
}

#include "scheduler/actuator.h"

void lt_report_clear(struct lt_report *report)
{
    lt_bytes_set(&report->reason, NULL);
    lt_bytes_set(&report->output, NULL);
    lt_bytes_set(&report->progress, NULL);
}

void lt_work_stopped(struct lt_work *work, struct lt_report *report)
{
    lt_report_clear(&work->said);
    work->said = *report;
    lt_reply_ok(&work->reply);
}

/* See iso_time.h. */
#include "iso_time.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define SECOND 1000000000ll

typedef struct {
    const char *text;
    size_t at, length;
    bool is_basic; /* no '-' and ':' between the numbers, but in the zone */
} reader;

static bool next_is(reader *r, char c)
{
    if (r->at >= r->length || r->text[r->at] != c) return false;
    r->at++;
    return true;
}

/* What the extended form has between two numbers. */
static bool read_separator(reader *r, char c)
{
    return r->is_basic || next_is(r, c);
}

static bool digit_is_next(const reader *r)
{
    return r->at < r->length && r->text[r->at] >= '0' && r->text[r->at] <= '9';
}

/* Exactly `count` digits, at most `most` together. */
static bool read_number(reader *r, int count, int most, int *number)
{
    *number = 0;
    for (int i = 0; i < count; i++, r->at++) {
        if (!digit_is_next(r)) return false;
        *number = *number * 10 + (r->text[r->at] - '0');
    }
    return *number <= most;
}

/* Digits behind the point: what is beyond a ns is cut off. */
static bool read_fraction(reader *r, int64_t *ns)
{
    int64_t unit = SECOND / 10;
    size_t from = r->at;
    for (; digit_is_next(r); r->at++, unit /= 10)
        *ns += unit * (r->text[r->at] - '0');
    return r->at > from;
}

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static const short days_before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};

static int days_in(int year, int month)
{
    return days_before[month] - days_before[month - 1] + (month == 2 && is_leap(year));
}

/* From the beginning of the year 1 to that of `year`. */
static int64_t days_until(int year)
{
    int64_t before = year - 1;
    return before * 365 + before / 4 - before / 100 + before / 400;
}

static bool read_date(reader *r, int64_t *days)
{
    int year, month, day;
    if (!read_number(r, 4, 2261, &year)) return false;
    r->is_basic = !next_is(r, '-');
    if (!read_number(r, 2, 12, &month) || !read_separator(r, '-') || !read_number(r, 2, 31, &day))
        return false;
    if (year < 1678 || month < 1 || day < 1 || day > days_in(year, month)) return false;
    *days = days_until(year) - days_until(1970) + days_before[month - 1] + day - 1;
    if (month > 2 && is_leap(year)) ++*days;
    return true;
}

static bool read_clock(reader *r, int64_t *ns)
{
    int hour, minute, second = 0;
    if (!read_number(r, 2, 23, &hour) || !read_separator(r, ':') || !read_number(r, 2, 59, &minute))
        return false;
    *ns = 0;
    if (r->is_basic ? digit_is_next(r) : next_is(r, ':')) {
        if (!read_number(r, 2, 60, &second)) return false; /* 60: a leap second */
        if ((next_is(r, '.') || next_is(r, ',')) && !read_fraction(r, ns)) return false;
    }
    *ns += (hour * 3600 + minute * 60 + second) * SECOND;
    return true;
}

/* How far the zone's clocks are ahead. */
static bool read_zone(reader *r, int64_t *ns)
{
    int hours, minutes = 0;
    *ns = 0;
    if (r->at == r->length || next_is(r, 'Z') || next_is(r, 'z')) return true;
    bool is_behind = next_is(r, '-');
    if (!is_behind && !next_is(r, '+')) return false;
    if (!read_number(r, 2, 23, &hours)) return false;
    bool has_colon = next_is(r, ':');
    if ((has_colon || r->at < r->length) && !read_number(r, 2, 59, &minutes)) return false;
    *ns = (hours * 3600 + minutes * 60) * SECOND;
    if (is_behind) *ns = -*ns;
    return true;
}

bool axi_iso_time_read(const char *text, size_t length, int64_t *ns)
{
    reader r = {.text = text, .length = length};
    int64_t days, clock, ahead;
    if (!read_date(&r, &days)) return false;
    if (!next_is(&r, 'T') && !next_is(&r, 't') && !next_is(&r, ' ')) return false;
    if (!read_clock(&r, &clock) || !read_zone(&r, &ahead) || r.at != length) return false;
    *ns = days * 86400 * SECOND + clock - ahead;
    return true;
}

void axi_iso_time_print(char text[AXI_ISO_TIME_ROOM], int64_t ns)
{
    int64_t seconds = ns / SECOND, rest = ns % SECOND;
    if (rest < 0) {
        rest += SECOND;
        seconds--;
    }
    struct tm parts;
    time_t time = (time_t)seconds;
    gmtime_r(&time, &parts);
    size_t used = strftime(text, AXI_ISO_TIME_ROOM, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + used, AXI_ISO_TIME_ROOM - used, ".%06" PRId64 "+00:00", rest / 1000);
}

int64_t axi_wall_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

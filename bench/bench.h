/* SPDX-License-Identifier: GPL-2.0 */
/* What bench.c, the measuring, and rows.c, what is measured, share. */
#ifndef BENCH_H
#define BENCH_H

#define PAGE	4096L
#define ANY	(-1.0)

/*
 * name, unit     as printed; an operation is one unit
 * source         the path in the kernel
 * ops            operations a call of op()
 * prepare, undo  optional: around every sample, not counted
 * op             counted
 * fixed          optional: counted apart and subtracted: what op() does besides
 * fault, alloc, free   page faults, pages allocated and freed that one
 *                operation must cause, within EVENT_SLACK; ANY is unchecked
 *                here, and the host lets kernels differ in pages then
 * refuse         optional: says why this kernel cannot be measured, or NULL
 */
struct row {
	const char *name, *unit;
	long ops;
	void (*prepare)(void), (*op)(void), (*undo)(void), (*fixed)(void);
	double fault, alloc, free;
	const char *source;
	const char *(*refuse)(void);
};

/* The rows in the order in which they run, and one call before the first. */
extern const struct row rows[];
extern const long nr_rows;
void set_up_rows(void);

/* Print an error line and end. */
void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* The value, when it is not negative; else the end, with errno's text. */
long must(long ret, const char *what);

/* Everything runs in a memcg of its own, but for what leaves it meanwhile. */
void leave_group(void);
void enter_group(void);

#endif

// SPDX-License-Identifier: GPL-2.0
/*
 * On-demand verifiers of mm structures: registration, runs and the report.
 *
 * A verifier walks one kind of structure under that structure's own locks and
 * compares it with a second source of truth.  This file decides when, counts,
 * and prints.  See Documentation/mm/verify.rst.
 */
#define pr_fmt(fmt) "mm_verify: " fmt

#include <linux/ctype.h>
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/seq_buf.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "delay.h"
#include "verify.h"

#define MM_VERIFY_LINE_LEN	2048
#define MM_VERIFY_MAX_INTERVAL	(60 * 60 * MSEC_PER_SEC)

/*
 * mm_verify_lock covers the list, the results and current_run.  One run at a
 * time is enough, and keeps the run's notes off the stack and out of the
 * allocator whose lists may be what is being verified.
 */
static DEFINE_MUTEX(mm_verify_lock);
static LIST_HEAD(mm_verifiers);
static struct mm_verify_run current_run;

/*
 * How many objects a verifier may visit in one hold of a spinlock.  A structure
 * with more is visited in parts, and what can only be compared in one hold is
 * left out and counted as such.  The default is the number at which
 * /proc/pagetypeinfo stops walking a free list.
 */
unsigned long mm_verify_max_hold = 100000;

static struct workqueue_struct *mm_verify_wq;
static void mm_verify_interval_fn(struct work_struct *work);
static DECLARE_DELAYED_WORK(mm_verify_interval_work, mm_verify_interval_fn);
static u64 interval_ms;

static struct mm_verifier *mm_verify_find(const char *name)
{
	struct mm_verifier *v;

	lockdep_assert_held(&mm_verify_lock);
	list_for_each_entry(v, &mm_verifiers, list)
		if (!strcmp(v->name, name))
			return v;
	return NULL;
}

static int mm_verify_finding(const struct mm_verifier *v, const char *name)
{
	return match_string(v->findings, v->nr_findings, name);
}

/* Names are columns of the report and words of a command. */
static bool mm_verify_name_ok(const char *name)
{
	if (!name || !*name || strlen(name) > 24 || !strcmp(name, "all"))
		return false;
	for (; *name; name++)
		if (!islower(*name) && !isdigit(*name) && *name != '_')
			return false;
	return true;
}

/**
 * mm_verify_register - add a verifier
 * @verifier: the verifier; it must live until it is unregistered
 *
 * Return: 0, -EINVAL when a name or a number is out of bounds, -EEXIST when
 * the name is taken.
 */
int mm_verify_register(struct mm_verifier *verifier)
{
	unsigned int i;
	int ret = 0;

	if (!mm_verify_name_ok(verifier->name) || !verifier->verify ||
	    verifier->nr_findings > MM_VERIFY_MAX_FINDINGS ||
	    verifier->nr_figures > MM_VERIFY_MAX_FIGURES)
		return -EINVAL;
	for (i = 0; i < verifier->nr_findings; i++)
		if (!mm_verify_name_ok(verifier->findings[i]))
			return -EINVAL;
	for (i = 0; i < verifier->nr_figures; i++)
		if (!mm_verify_name_ok(verifier->figures[i]))
			return -EINVAL;

	mutex_lock(&mm_verify_lock);
	if (mm_verify_find(verifier->name)) {
		ret = -EEXIST;
	} else {
		verifier->injected = MM_VERIFY_NO_INJECTION;
		list_add_tail(&verifier->list, &mm_verifiers);
	}
	mutex_unlock(&mm_verify_lock);
	return ret;
}

/**
 * mm_verify_unregister - remove a verifier
 * @verifier: the verifier; it is not running when this returns
 */
void mm_verify_unregister(struct mm_verifier *verifier)
{
	mutex_lock(&mm_verify_lock);
	list_del(&verifier->list);
	mutex_unlock(&mm_verify_lock);
}

/**
 * mm_verify_found - count a violation, and remember its first description
 * @run: the run that found it
 * @finding: which of the verifier's findings it is
 * @object: what is wrong; compared with what was planted
 * @fmt: describes the object; lines are separated by newlines
 *
 * May be called under spinlocks and with interrupts off: nothing is printed
 * here, because a console driver may need the very lock that is held.  The
 * text is printed by the next mm_verify_pause() or at the end of the run.
 */
void mm_verify_found(struct mm_verify_run *run, unsigned int finding,
		     const void *object, const char *fmt, ...)
{
	struct mm_verifier *v = run->verifier;
	bool planted = mm_verify_injecting(run, finding) &&
		       object == run->planted;
	va_list args;

	if (WARN_ON_ONCE(finding >= v->nr_findings))
		return;

	run->found[finding]++;
	if (planted) {
		run->caught = true;
		/* It takes the place of a real one, which is printed later. */
		if (run->noted & BIT(finding))
			v->printed &= ~BIT(finding);
	} else {
		if (v->printed & BIT(finding))
			return;
		if (mm_verify_injecting(run, finding) && run->caught)
			return;
		v->printed |= BIT(finding);
	}

	va_start(args, fmt);
	vsnprintf(run->note[finding], MM_VERIFY_NOTE_LEN, fmt, args);
	va_end(args);
	run->noted |= BIT(finding);
}

static void mm_verify_print(struct mm_verify_run *run)
{
	struct mm_verifier *v = run->verifier;
	unsigned int i;

	for (i = 0; i < v->nr_findings; i++) {
		bool injected = mm_verify_injecting(run, i) && run->caught;
		char *text = run->note[i], *line;

		if (!(run->noted & BIT(i)))
			continue;
		while ((line = strsep(&text, "\n")))
			pr_warn("%s: %s: %s: %s\n", v->name,
				injected ? "injected" : "violation",
				v->findings[i], line);
	}
	run->noted = 0;
}

/**
 * mm_verify_pause - end a batch
 * @run: the run
 *
 * To be called without locks between batches: prints what was found, and lets
 * others run.
 *
 * Return: 0, or -EINTR when the task that asked for the run is being killed.
 */
int mm_verify_pause(struct mm_verify_run *run)
{
	might_sleep();
	mm_verify_print(run);
	cond_resched();
	return fatal_signal_pending(current) ? -EINTR : 0;
}

/**
 * mm_verify_linked - is an entry on a list, and are its neighbours beside it?
 * @pos: the entry, of a list that is locked
 *
 * Its pointers may point anywhere: a verifier must not oops on what it is
 * looking for.
 *
 * Return: true when both neighbours lead back to it.
 */
bool mm_verify_linked(struct list_head *pos)
{
	struct list_head *back;

	if (pos->next == pos)
		return false;
	if (get_kernel_nofault(back, &pos->next->prev) || back != pos)
		return false;
	if (get_kernel_nofault(back, &pos->prev->next) || back != pos)
		return false;
	return true;
}

static int mm_verify_run_one(struct mm_verifier *v, int inject)
{
	struct mm_verify_run *run = &current_run;
	unsigned int i;
	u64 start;
	int ret;

	lockdep_assert_held(&mm_verify_lock);

	memset(run, 0, sizeof(*run));
	run->verifier = v;
	run->inject = inject;

	start = ktime_get_ns();
	ret = v->verify(run);
	mm_verify_print(run);
	if (ret)
		return ret;
	if (inject != MM_VERIFY_NO_INJECTION && !run->planted)
		return -EAGAIN;

	v->ns = ktime_get_ns() - start;
	v->checked = run->checked;
	v->injected = inject;
	v->caught = run->caught;
	memcpy(v->found, run->found, sizeof(v->found));
	memcpy(v->figure, run->figures, sizeof(v->figure));
	if (inject != MM_VERIFY_NO_INJECTION)
		return 0;

	v->runs++;
	for (i = 0; i < v->nr_findings; i++)
		v->total[i] += run->found[i];
	return 0;
}

static int mm_verify_run_named(const char *name)
{
	struct mm_verifier *v;
	int ret = -EINVAL;

	if (mutex_lock_killable(&mm_verify_lock))
		return -EINTR;
	if (!strcmp(name, "all")) {
		ret = 0;
		list_for_each_entry(v, &mm_verifiers, list) {
			ret = mm_verify_run_one(v, MM_VERIFY_NO_INJECTION);
			if (ret)
				break;
		}
	} else {
		v = mm_verify_find(name);
		if (v)
			ret = mm_verify_run_one(v, MM_VERIFY_NO_INJECTION);
	}
	mutex_unlock(&mm_verify_lock);
	return ret;
}

/* "verifier finding" */
static int __maybe_unused mm_verify_inject_named(char *words)
{
	char *name = strsep(&words, " ");
	struct mm_verifier *v;
	int ret = -EINVAL;

	if (!words)
		return -EINVAL;
	if (mutex_lock_killable(&mm_verify_lock))
		return -EINTR;
	v = mm_verify_find(name);
	if (v) {
		ret = mm_verify_finding(v, words);
		if (ret >= 0)
			ret = mm_verify_run_one(v, ret);
	}
	mutex_unlock(&mm_verify_lock);
	return ret;
}

/* One line of the report, without the newline. */
static void mm_verify_line(struct mm_verifier *v, struct seq_buf *s)
{
	u64 violations = 0, total = 0;
	unsigned int i;

	for (i = 0; i < v->nr_findings; i++) {
		violations += v->found[i];
		total += v->total[i];
	}
	seq_buf_printf(s, "%s %llu %llu %llu runs=%llu total=%llu", v->name,
		       v->checked, violations, v->ns, v->runs, total);
	for (i = 0; i < v->nr_findings; i++)
		seq_buf_printf(s, " %s=%llu/%llu", v->findings[i],
			       v->found[i], v->total[i]);
	for (i = 0; i < v->nr_figures; i++)
		seq_buf_printf(s, " %s=%llu", v->figures[i], v->figure[i]);
	if (v->injected != MM_VERIFY_NO_INJECTION)
		seq_buf_printf(s, " injected=%s:%s", v->findings[v->injected],
			       v->caught ? "caught" : "missed");
}

static int mm_verify_report_show(struct seq_file *m, void *unused)
{
	struct mm_verifier *v;
	struct seq_buf s;
	char *line;

	line = kmalloc(MM_VERIFY_LINE_LEN, GFP_KERNEL);
	if (!line)
		return -ENOMEM;
	if (mutex_lock_killable(&mm_verify_lock)) {
		kfree(line);
		return -EINTR;
	}
	list_for_each_entry(v, &mm_verifiers, list) {
		seq_buf_init(&s, line, MM_VERIFY_LINE_LEN);
		mm_verify_line(v, &s);
		seq_write(m, line, seq_buf_used(&s));
		seq_putc(m, '\n');
	}
	mutex_unlock(&mm_verify_lock);
	kfree(line);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(mm_verify_report);

/* Reading run or inject lists what can be written to it. */
static int mm_verify_run_show(struct seq_file *m, void *unused)
{
	struct mm_verifier *v;

	if (mutex_lock_killable(&mm_verify_lock))
		return -EINTR;
	seq_puts(m, "all\n");
	list_for_each_entry(v, &mm_verifiers, list)
		seq_printf(m, "%s\n", v->name);
	mutex_unlock(&mm_verify_lock);
	return 0;
}

static int mm_verify_inject_show(struct seq_file *m, void *unused)
{
	struct mm_verifier *v;
	unsigned int i;

	if (mutex_lock_killable(&mm_verify_lock))
		return -EINTR;
	list_for_each_entry(v, &mm_verifiers, list)
		for (i = 0; i < v->nr_findings; i++)
			seq_printf(m, "%s %s\n", v->name, v->findings[i]);
	mutex_unlock(&mm_verify_lock);
	return 0;
}

static ssize_t mm_verify_command(const char __user *ubuf, size_t count,
				 int (*command)(char *words))
{
	char words[64];
	int ret;

	if (count >= sizeof(words))
		return -EINVAL;
	if (copy_from_user(words, ubuf, count))
		return -EFAULT;
	words[count] = '\0';
	ret = command(strim(words));
	return ret ? ret : count;
}

static int mm_verify_run_command(char *words)
{
	return mm_verify_run_named(words);
}

static ssize_t mm_verify_run_write(struct file *file, const char __user *ubuf,
				   size_t count, loff_t *ppos)
{
	return mm_verify_command(ubuf, count, mm_verify_run_command);
}

static ssize_t mm_verify_inject_write(struct file *file,
				      const char __user *ubuf, size_t count,
				      loff_t *ppos)
{
	return mm_verify_command(ubuf, count, mm_verify_inject_named);
}

static int mm_verify_run_open(struct inode *inode, struct file *file)
{
	return single_open(file, mm_verify_run_show, NULL);
}

static int mm_verify_inject_open(struct inode *inode, struct file *file)
{
	return single_open(file, mm_verify_inject_show, NULL);
}

static const struct file_operations mm_verify_run_fops = {
	.owner		= THIS_MODULE,
	.open		= mm_verify_run_open,
	.read		= seq_read,
	.write		= mm_verify_run_write,
	.llseek		= seq_lseek,
	.release	= single_release,
};

static const struct file_operations mm_verify_inject_fops = {
	.owner		= THIS_MODULE,
	.open		= mm_verify_inject_open,
	.read		= seq_read,
	.write		= mm_verify_inject_write,
	.llseek		= seq_lseek,
	.release	= single_release,
};

static void mm_verify_interval_fn(struct work_struct *work)
{
	u64 ms;

	mm_verify_run_named("all");
	ms = READ_ONCE(interval_ms);
	if (ms)
		queue_delayed_work(mm_verify_wq, &mm_verify_interval_work,
				   msecs_to_jiffies(ms));
}

static int mm_verify_interval_get(void *data, u64 *val)
{
	*val = READ_ONCE(interval_ms);
	return 0;
}

static int mm_verify_interval_set(void *data, u64 val)
{
	if (val > MM_VERIFY_MAX_INTERVAL)
		return -EINVAL;
	WRITE_ONCE(interval_ms, val);
	if (val)
		mod_delayed_work(mm_verify_wq, &mm_verify_interval_work,
				 msecs_to_jiffies(val));
	else
		cancel_delayed_work_sync(&mm_verify_interval_work);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(mm_verify_interval_fops, mm_verify_interval_get,
			 mm_verify_interval_set, "%llu\n");

static int __init mm_verify_init(void)
{
	struct dentry *dir;

	mm_verify_wq = alloc_workqueue("mm_verify", WQ_UNBOUND | WQ_FREEZABLE,
				       1);
	if (!mm_verify_wq)
		return -ENOMEM;

	dir = debugfs_create_dir("mm_verify", NULL);
	debugfs_create_file("run", 0600, dir, NULL, &mm_verify_run_fops);
	debugfs_create_file("report", 0400, dir, NULL,
			    &mm_verify_report_fops);
	debugfs_create_file_unsafe("interval_ms", 0600, dir, NULL,
				   &mm_verify_interval_fops);
	debugfs_create_ulong("max_hold", 0600, dir, &mm_verify_max_hold);
	if (IS_ENABLED(CONFIG_DEBUG_VM_VERIFY_INJECT))
		debugfs_create_file("inject", 0600, dir, NULL,
				    &mm_verify_inject_fops);
	mm_delay_init(dir);
	return 0;
}
late_initcall(mm_verify_init);

#include "core-test.h"

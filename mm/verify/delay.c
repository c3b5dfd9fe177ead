// SPDX-License-Identifier: GPL-2.0
/*
 * Delay points: mm_verify/delay in debugfs.  See Documentation/mm/verify.rst.
 */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "delay.h"

#define MM_DELAY_MAX_US		USEC_PER_SEC
#define MM_DELAY_STEP_US	1000U

DEFINE_STATIC_KEY_FALSE(mm_delay_set);

static const char * const mm_delay_names[MM_DELAY_NR] = {
	[MM_DELAY_RMAP_STAT] = "rmap_stat",
	[MM_DELAY_ZAP_PTE] = "zap_pte",
	[MM_DELAY_ZAP_PMD] = "zap_pmd",
	[MM_DELAY_RECLAIM] = "reclaim",
	[MM_DELAY_COLLAPSE] = "collapse",
	[MM_DELAY_SWAP_ADD] = "swap_add",
	[MM_DELAY_REPARENT] = "reparent",
};

/**
 * struct mm_delay_setting - what a test has asked for at a delay point
 * @us: microseconds, 0 for none
 * @tgid: whose tasks are delayed, 0 for all
 * @owner: the open file it was written to; the setting ends with it
 * @entered: how often somebody began to wait, since boot
 */
struct mm_delay_setting {
	unsigned int us;
	pid_t tgid;
	struct file *owner;
	atomic_long_t entered;
};

/* Covers the settings; those who wait only read. */
static DEFINE_MUTEX(mm_delay_lock);
static struct mm_delay_setting mm_delay_settings[MM_DELAY_NR];

void __mm_delay(enum mm_delay_point point)
{
	struct mm_delay_setting *s = &mm_delay_settings[point];
	unsigned int us = READ_ONCE(s->us);
	pid_t tgid = READ_ONCE(s->tgid);

	if (!us || (tgid && tgid != task_tgid_nr(current)))
		return;
	atomic_long_inc(&s->entered);
	while (us) {
		unsigned int step = min(us, MM_DELAY_STEP_US);

		udelay(step);
		us -= step;
	}
}

static void mm_delay_change(struct mm_delay_setting *s, unsigned int us,
			    pid_t tgid, struct file *owner)
{
	if (us && !s->us)
		static_branch_inc(&mm_delay_set);
	else if (!us && s->us)
		static_branch_dec(&mm_delay_set);
	WRITE_ONCE(s->tgid, tgid);
	WRITE_ONCE(s->us, us);
	s->owner = us ? owner : NULL;
}

/* "POINT MICROSECONDS" for the writer's own tasks, "... all" for everybody's */
static int mm_delay_command(char *words, struct file *file)
{
	char *name = strsep(&words, " "), *number = strsep(&words, " ");
	pid_t tgid = task_tgid_nr(current);
	struct mm_delay_setting *s;
	unsigned int us;
	int point;

	point = match_string(mm_delay_names, MM_DELAY_NR, name);
	if (point < 0 || !number || kstrtouint(number, 10, &us) ||
	    us > MM_DELAY_MAX_US)
		return -EINVAL;
	if (words && strcmp(words, "all"))
		return -EINVAL;
	if (words)
		tgid = 0;

	s = &mm_delay_settings[point];
	if (s->owner && s->owner != file)
		return -EBUSY;
	mm_delay_change(s, us, tgid, file);
	return 0;
}

static ssize_t mm_delay_write(struct file *file, const char __user *ubuf,
			      size_t count, loff_t *ppos)
{
	char words[64];
	int ret;

	if (count >= sizeof(words))
		return -EINVAL;
	if (copy_from_user(words, ubuf, count))
		return -EFAULT;
	words[count] = '\0';
	mutex_lock(&mm_delay_lock);
	ret = mm_delay_command(strim(words), file);
	mutex_unlock(&mm_delay_lock);
	return ret ? ret : count;
}

static int mm_delay_show(struct seq_file *m, void *unused)
{
	unsigned int i;

	for (i = 0; i < MM_DELAY_NR; i++) {
		struct mm_delay_setting *s = &mm_delay_settings[i];

		seq_printf(m, "%s %u %ld\n", mm_delay_names[i],
			   READ_ONCE(s->us), atomic_long_read(&s->entered));
	}
	return 0;
}

static int mm_delay_open(struct inode *inode, struct file *file)
{
	return single_open(file, mm_delay_show, NULL);
}

static int mm_delay_release(struct inode *inode, struct file *file)
{
	unsigned int i;

	mutex_lock(&mm_delay_lock);
	for (i = 0; i < MM_DELAY_NR; i++)
		if (mm_delay_settings[i].owner == file)
			mm_delay_change(&mm_delay_settings[i], 0, 0, NULL);
	mutex_unlock(&mm_delay_lock);
	return single_release(inode, file);
}

static const struct file_operations mm_delay_fops = {
	.owner		= THIS_MODULE,
	.open		= mm_delay_open,
	.read		= seq_read,
	.write		= mm_delay_write,
	.llseek		= seq_lseek,
	.release	= mm_delay_release,
};

void __init mm_delay_init(struct dentry *dir)
{
	debugfs_create_file("delay", 0600, dir, NULL, &mm_delay_fops);
}

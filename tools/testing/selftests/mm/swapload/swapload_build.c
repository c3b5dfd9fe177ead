// SPDX-License-Identifier: GPL-2.0
/*
 * One of the two builds of the swapping load: removes the objects, runs the
 * steps, several at a time, compares every object with its reference, and
 * begins again.
 *
 * usage: swapload_build -p PLACE -C TREE -l LIST -r REFERENCE [-R]
 *                       [-j N] [-t SECONDS] [-n ITERATIONS] [-u PROGRAM]
 *                       [-k SOURCE] [-o DIR]
 *  -R  make the reference: build once, copy the objects to REFERENCE
 *  -t  a step that takes longer is killed and counts as failed
 *  -u  run each step as PROGRAM sh -c COMMAND
 *  -k  after a failure that an injected fault explains, copy SOURCE over TREE
 *  -o  keep different objects here (the first ten)
 *
 * The list has OBJECT<TAB>COMMAND on each line. Runs until SIGTERM. Exit
 * status: 0; with -R 1 when a step failed; 2 on a usage error.
 */
#include <sys/wait.h>

#include "swapload.h"

#define MAX_JOBS	256
#define ERR_LEN		400

struct step {
	char *object, *command;
	bool done;
};

struct job {
	pid_t pid;
	unsigned int step;
	double begun;
	long long oom_kills;
	bool late;
};

static struct {
	const char *place, *tree, *list, *reference, *run, *source, *keep;
	unsigned int jobs, limit;
	unsigned long iterations;
	bool make_reference;
} opt = { .jobs = 2, .limit = 120 };

static struct step *steps;
static unsigned int nr_steps;
static struct job jobs[MAX_JOBS];

static struct {
	unsigned long iterations, steps, failed, killed, oom, expected;
	unsigned long compared, different;
} count;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "swapload_build: %s: %s\n", what, why);
	exit(2);
}

static void status(void)
{
	char name[64];

	snprintf(name, sizeof(name), "build.%s", opt.place);
	swapload_status(name,
			"iterations=%lu steps=%lu failed=%lu killed=%lu oom=%lu expected=%lu compared=%lu different=%lu",
			count.iterations, count.steps, count.failed,
			count.killed, count.oom, count.expected,
			count.compared, count.different);
}

static void read_list(void)
{
	FILE *f = fopen(opt.list, "r");
	char *line = NULL, *tab;
	size_t size = 0;
	ssize_t len;

	if (!f)
		die(opt.list, strerror(errno));
	while ((len = getline(&line, &size, f)) > 0) {
		if (line[len - 1] == '\n')
			line[--len] = '\0';
		if (!len || *line == '#')
			continue;
		tab = strchr(line, '\t');
		if (!tab || tab == line || !tab[1])
			die(opt.list, "a line that is not OBJECT<TAB>COMMAND");
		*tab = '\0';
		if (*line == '/' || strstr(line, ".."))
			die(line, "an object outside the tree");
		steps = realloc(steps, (nr_steps + 1) * sizeof(*steps));
		if (!steps)
			die(opt.list, "no memory");
		steps[nr_steps].object = strdup(line);
		steps[nr_steps].command = strdup(tab + 1);
		nr_steps++;
	}
	free(line);
	fclose(f);
	if (!nr_steps)
		die(opt.list, "no step in it");
}

static void path_of(char *path, const char *dir, const char *object)
{
	snprintf(path, PATH_MAX, "%s/%s", dir, object);
}

static void make_parents(char *path)
{
	char *p;

	for (p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		mkdir(path, 0755);
		*p = '/';
	}
}

static int copy(const char *from, const char *to)
{
	char path[PATH_MAX], buf[65536];
	int in, out, n = -1;

	snprintf(path, sizeof(path), "%s", to);
	make_parents(path);
	in = open(from, O_RDONLY | O_CLOEXEC);
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (in >= 0 && out >= 0) {
		while ((n = swapload_fill(in, buf, sizeof(buf))) > 0) {
			if (write(out, buf, n) != n) {
				n = -1;
				break;
			}
		}
	}
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	return n;
}

static void words_of(char *path, unsigned int slot)
{
	const char *dir = getenv("SWAPLOAD_STATUS");

	snprintf(path, PATH_MAX, "%s/%s.%u.words", dir ? dir : "/tmp",
		 opt.place, slot);
}

static int start(unsigned int slot, unsigned int n)
{
	struct job *job = &jobs[slot];
	char words[PATH_MAX];
	int fd;

	words_of(words, slot);
	job->step = n;
	job->begun = swapload_uptime();
	job->oom_kills = swapload_oom_kills();
	job->late = false;
	job->pid = fork();
	if (job->pid < 0) {
		job->pid = 0;
		return -errno;
	}
	if (job->pid) {
		setpgid(job->pid, job->pid);
		return 0;
	}

	setpgid(0, 0);
	swapload_killable();
	fd = open(words, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
	if (fd >= 0) {
		dup2(fd, 1);
		dup2(fd, 2);
	}
	fd = open("/dev/null", O_RDONLY);
	if (fd >= 0)
		dup2(fd, 0);
	if (chdir(opt.tree)) {
		fprintf(stderr, "%s: %s\n", opt.tree, strerror(errno));
		_exit(126);
	}
	if (opt.run)
		execl(opt.run, opt.run, "sh", "-c", steps[n].command, NULL);
	else
		execl("/bin/sh", "sh", "-c", steps[n].command, NULL);
	fprintf(stderr, "cannot run the step: %s\n", strerror(errno));
	_exit(126);
}

/* Words of programs that an injected I/O error on swap can make fail. */
static bool says_io_error(const char *path, int wstatus)
{
	/* The first words: what a compiler says of a lost header comes after. */
	static char text[65536];

	swapload_read(path, text, sizeof(text));
	return strstr(text, "Input/output error") ||
	       strstr(text, "Bus error") ||
	       (WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGBUS) ||
	       (WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 128 + SIGBUS);
}

static bool swap_read_failed(void)
{
	const char *dir = getenv("SWAPLOAD_STATUS");
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/swap_read_errors", dir ? dir : "/tmp");
	return !access(path, F_OK);
}

static void judge(unsigned int slot, int wstatus)
{
	struct job *job = &jobs[slot];
	struct step *step = &steps[job->step];
	char path[PATH_MAX], words[ERR_LEN], how[64];
	bool killed;
	int fd, len;

	count.steps++;
	step->done = WIFEXITED(wstatus) && !WEXITSTATUS(wstatus);
	if (step->done || swapload_stop)
		return;

	/* The last words tell most. */
	words[0] = '\0';
	words_of(path, slot);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		off_t end = lseek(fd, 0, SEEK_END);

		lseek(fd, end > ERR_LEN - 1 ? end - (ERR_LEN - 1) : 0, SEEK_SET);
		len = read(fd, words, ERR_LEN - 1);
		words[len > 0 ? len : 0] = '\0';
		close(fd);
	}

	if (WIFSIGNALED(wstatus))
		snprintf(how, sizeof(how), "killed by signal %d",
			 WTERMSIG(wstatus));
	else
		snprintf(how, sizeof(how), "exit %d", WEXITSTATUS(wstatus));
	killed = (WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL) ||
		 (WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 137) ||
		 strstr(words, "Killed");

	if (job->late) {
		count.failed++;
		swapload_event("step_failed", "%s %s: took over %u s; %s",
			       opt.place, step->object, opt.limit, words);
	} else if (killed && swapload_oom_kills() > job->oom_kills) {
		count.oom++;
		swapload_event("step_oom", "%s %s: %s after an OOM kill: %s",
			       opt.place, step->object, how, words);
	} else if (killed) {
		count.killed++;
		swapload_event("step_killed",
			       "%s %s: %s and nothing was OOM-killed: %s",
			       opt.place, step->object, how, words);
	} else if (says_io_error(path, wstatus) && swap_read_failed()) {
		count.expected++;
		swapload_event("step_expected",
			       "%s %s: %s after an injected read error: %s",
			       opt.place, step->object, how, words);
	} else {
		count.failed++;
		swapload_event("step_failed", "%s %s: %s: %s", opt.place,
			       step->object, how, words);
	}
}

static unsigned int running(void)
{
	unsigned int i, n = 0;

	for (i = 0; i < opt.jobs; i++)
		n += jobs[i].pid != 0;
	return n;
}

static void reap(void)
{
	struct timespec ts = { .tv_nsec = 10 * 1000000L };
	unsigned int i;
	int wstatus;
	pid_t pid;

	pid = waitpid(-1, &wstatus, WNOHANG);
	if (pid <= 0) {
		for (i = 0; i < opt.jobs; i++) {
			if (!jobs[i].pid || jobs[i].late ||
			    swapload_uptime() - jobs[i].begun < opt.limit)
				continue;
			jobs[i].late = true;
			kill(-jobs[i].pid, SIGKILL);
		}
		nanosleep(&ts, NULL);
		return;
	}
	for (i = 0; i < opt.jobs; i++) {
		if (jobs[i].pid == pid) {
			judge(i, wstatus);
			jobs[i].pid = 0;
			status();
		}
	}
}

static void kill_all(void)
{
	unsigned int i;

	for (i = 0; i < opt.jobs; i++)
		if (jobs[i].pid)
			kill(-jobs[i].pid, SIGKILL);
	while (running())
		reap();
}

static void build(void)
{
	unsigned int n = 0, slot, failures = 0;
	int ret;

	while ((n < nr_steps || running()) && !swapload_stop) {
		for (slot = 0; slot < opt.jobs && n < nr_steps; slot++) {
			if (jobs[slot].pid)
				continue;
			ret = start(slot, n);
			if (!ret) {
				n++;
				failures = 0;
				continue;
			}
			/* fork() may fail when memory is short. */
			if (++failures == 100) {
				count.failed++;
				swapload_event("step_failed",
					       "%s %s: fork failed 100 times: %s",
					       opt.place, steps[n].object,
					       strerror(-ret));
				n++;
				failures = 0;
			}
			break;
		}
		reap();
	}
	kill_all();
}

/* Let what is read next come from the disk and not from the page cache. */
static void drop(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	close(fd);
}

static void compare(void)
{
	char ref[PATH_MAX], path[PATH_MAX], keep[PATH_MAX];
	struct swapload_diff diff;
	const char *broken;
	unsigned int i;
	int ret;

	/* At the end of the load too: what was built by then. */
	for (i = 0; i < nr_steps; i++) {
		if (!steps[i].done)
			continue;
		path_of(ref, opt.reference, steps[i].object);
		path_of(path, opt.tree, steps[i].object);
		if (count.iterations & 1)
			drop(path);
		ret = swapload_compare(ref, path, &diff, &broken);
		count.compared++;
		if (!ret)
			continue;
		if (ret == -EIO && swap_read_failed()) {
			count.expected++;
			swapload_event("step_expected",
				       "%s %s: unreadable after an injected read error",
				       opt.place, steps[i].object);
			continue;
		}
		count.different++;
		if (ret < 0)
			swapload_event("corrupt", "%s %s: %s: %s", opt.place,
				       steps[i].object, broken, strerror(-ret));
		else
			swapload_event("corrupt", "%s %s: %s", opt.place,
				       steps[i].object,
				       swapload_describe(&diff));
		if (opt.keep && count.different <= 10) {
			snprintf(keep, sizeof(keep), "%s/%s-%lu/%s", opt.keep,
				 opt.place, count.iterations, steps[i].object);
			copy(path, keep);
		}
	}
}

static void restore_source(void)
{
	char command[2 * PATH_MAX + 32];

	snprintf(command, sizeof(command), "cp -a '%s/.' '%s/'", opt.source,
		 opt.tree);
	if (system(command))
		swapload_event("note", "%s: cannot copy the source again",
			       opt.place);
}

static int make_reference(void)
{
	char path[PATH_MAX], ref[PATH_MAX];
	unsigned int i, bad = 0;

	build();
	for (i = 0; i < nr_steps; i++) {
		path_of(path, opt.tree, steps[i].object);
		path_of(ref, opt.reference, steps[i].object);
		if (!steps[i].done || copy(path, ref)) {
			fprintf(stderr, "swapload_build: %s %s: no reference\n",
				opt.place, steps[i].object);
			bad++;
		}
		status();
	}
	return swapload_stop || bad ? 1 : 0;
}

static void refuse(void)
{
	fprintf(stderr, "usage: swapload_build -p PLACE -C TREE -l LIST -r REFERENCE [-R] [-j N]\n"
		"       [-t SECONDS] [-n ITERATIONS] [-u PROGRAM] [-k SOURCE] [-o DIR]\n");
	exit(2);
}

static unsigned long number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end)
		refuse();
	return value;
}

int main(int argc, char **argv)
{
	char path[PATH_MAX];
	unsigned int i;
	int c;

	while ((c = getopt(argc, argv, "p:C:l:r:Rj:t:n:u:k:o:")) != -1) {
		switch (c) {
		case 'p':
			opt.place = optarg;
			break;
		case 'C':
			opt.tree = optarg;
			break;
		case 'l':
			opt.list = optarg;
			break;
		case 'r':
			opt.reference = optarg;
			break;
		case 'R':
			opt.make_reference = true;
			break;
		case 'j':
			opt.jobs = number(optarg);
			break;
		case 't':
			opt.limit = number(optarg);
			break;
		case 'n':
			opt.iterations = number(optarg);
			break;
		case 'u':
			opt.run = optarg;
			break;
		case 'k':
			opt.source = optarg;
			break;
		case 'o':
			opt.keep = optarg;
			break;
		default:
			refuse();
		}
	}
	if (!opt.place || !opt.tree || !opt.list || !opt.reference ||
	    optind != argc || !opt.jobs || opt.jobs > MAX_JOBS || !opt.limit)
		refuse();
	read_list();
	swapload_signals();
	swapload_unkillable();

	if (opt.make_reference)
		return make_reference();

	status();
	while (!swapload_stop) {
		unsigned long expected = count.expected;

		for (i = 0; i < nr_steps; i++) {
			path_of(path, opt.tree, steps[i].object);
			if (unlink(path) && errno != ENOENT)
				swapload_event("step_failed",
					       "%s %s: unlink: %s", opt.place,
					       steps[i].object,
					       strerror(errno));
			steps[i].done = false;
		}
		build();
		status();
		compare();
		if (!swapload_stop)
			count.iterations++;
		status();
		if (opt.iterations && count.iterations >= opt.iterations)
			break;
		if (opt.source && count.expected != expected)
			restore_source();
	}
	status();
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Compare a tree of objects with reference objects, bit for bit: each file of
 * the reference must be in the tree and be the same.
 *
 * usage: swapload_cmp REFERENCE TREE
 *
 * Prints a line for each object that differs: its name, the first differing
 * byte and its page; then how many were compared. Exit status: 0 when all are
 * the same, 1 when one differs, is missing or cannot be read, 2 on usage.
 */
#include <ftw.h>

#include "swapload.h"

static const char *reference, *tree;
static unsigned long compared, different;

static int visit(const char *path, const struct stat *st, int type,
		 struct FTW *ftw)
{
	const char *name = path + strlen(reference), *broken;
	struct swapload_diff diff;
	char other[PATH_MAX];
	int ret;

	(void)st;
	(void)ftw;
	if (type == FTW_D)
		return 0;
	if (type != FTW_F) {
		fprintf(stderr, "swapload_cmp: %s: cannot be read\n", path);
		different++;
		return 0;
	}
	while (*name == '/')
		name++;
	snprintf(other, sizeof(other), "%s/%s", tree, name);
	ret = swapload_compare(path, other, &diff, &broken);
	compared++;
	if (!ret)
		return 0;
	different++;
	if (ret < 0)
		printf("%s: %s: %s\n", name, broken, strerror(-ret));
	else
		printf("%s: %s\n", name, swapload_describe(&diff));
	return 0;
}

int main(int argc, char **argv)
{
	struct stat st;
	int i;

	if (argc != 3) {
		fprintf(stderr, "usage: swapload_cmp REFERENCE TREE\n");
		return 2;
	}
	for (i = 1; i < 3; i++) {
		if (stat(argv[i], &st) || !S_ISDIR(st.st_mode)) {
			fprintf(stderr, "swapload_cmp: %s: no such folder\n",
				argv[i]);
			return 2;
		}
	}
	reference = argv[1];
	tree = argv[2];
	if (nftw(reference, visit, 16, FTW_PHYS)) {
		perror("swapload_cmp");
		return 1;
	}
	printf("%lu compared, %lu different\n", compared, different);
	if (!compared) {
		fprintf(stderr, "swapload_cmp: %s: nothing in it\n", reference);
		return 1;
	}
	return different ? 1 : 0;
}

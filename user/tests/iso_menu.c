/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Boot menus: what configurations of isolinux and GRUB mean, from files in memory; what
 * they must not be able to do; and whole discs made by xorriso, as distributions lay
 * them out.
 */
#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "image/iso_menu.h"
#include "tap.h"
#include "vmplat.h"

/* ---- configurations in memory -------------------------------------------------- */

struct file {
	const char *path, *text;
};

static int read_file(void *ctx, const char *path, char *buf, size_t max, size_t *len)
{
	for (const struct file *f = ctx; f->path; f++) {
		if (strcmp(f->path, path))
			continue;
		*len = strlen(f->text);
		if (*len > max)
			return -EFBIG;
		memcpy(buf, f->text, *len);
		return 0;
	}
	return -ENOENT;
}

static bool exists(void *ctx, const char *path, bool directory)
{
	for (const struct file *f = ctx; f->path; f++)
		if (!strcmp(f->path, path))
			return !directory;
	return false;
}

static void list_dir(void *ctx, const char *path, void (*found)(void *to, const char *name), void *to)
{
	size_t len = strlen(path);

	for (const struct file *f = ctx; f->path; f++)
		if (!strncmp(f->path, path, len) && f->path[len] == '/' && !strchr(f->path + len + 1, '/'))
			found(to, f->path + len + 1);
}

static struct menu m;
static struct menu_files files;
static int chosen;

static void read_menu(int (*read)(struct menu *m, const char *path), const struct file *list)
{
	files = (struct menu_files){ (void *)list, read_file, exists, list_dir };
	menu_init(&m, &files);
	chosen = read(&m, list->path);
}

/* choice @nr as text: "id|title|kernel|initrd,initrd|args|obstacle" */
static const char *choice(unsigned int nr)
{
	static char text[9000];
	const struct vmplat_iso_choice *c;
	char *to = text;

	if (nr >= m.nr_choices)
		return "(none)";
	c = &m.choices[nr]->pub;
	to += sprintf(to, "%s|%s|%s|", c->id, c->title, c->kernel);
	for (unsigned int i = 0; i < c->nr_initrds; i++)
		to += sprintf(to, "%s%s", i ? "," : "", c->initrds[i]);
	sprintf(to, "|%s|%s", c->args, c->obstacle ? c->obstacle : "");
	return text;
}

#define CHOICE(nr, want) do {						\
	if (strcmp(choice(nr), want)) {					\
		printf("# %s:%d: %s\n", __FILE__, __LINE__, choice(nr));	\
		tap_bad = true;						\
	}								\
} while (0)

static bool noted(const char *say)
{
	for (unsigned int i = 0; i < m.nr_notes; i++)
		if (strstr(m.notes[i], say))
			return true;
	for (unsigned int i = 0; i < m.nr_notes; i++)
		printf("# note: %s\n", m.notes[i]);
	return false;
}

/* ---- isolinux --------------------------------------------------------------------- */

TEST(isolinux)
{
	static const struct file list[] = {
		{ "/isolinux/isolinux.cfg",
		  "# comment\nUI vesamenu.c32\r\nprompt 0\nDEFAULT two\nAPPEND for all\n"
		  "label one\n  menu label ^One of them\n  kernel /k1\n  append initrd=/i1,i2 a=b  c --- quiet\n"
		  "LABEL two\n\tLINUX k2\n\tINITRD /a,/b\n\tAPPEND initrd=/ignored last\n"
		  "label three\nkernel k3\n"
		  "label four\nkernel k4\nappend -\n"
		  "text help\nlabel no\nkernel no\nendtext\n"
		  "label five\nkernel chain.c32\nlabel six\nlocalboot 0x80\n"
		  "label seven\nkernel /boot/memdisk\n"
		  "include more.cfg\n" },
		{ "/isolinux/more.cfg", "append initrd=/floppy\nmenu begin\nlabel eight\nlinux x.bin\nmenu default\nmenu end\n"
					"label nine\nmenu title x\nappend only\n" },
		{ }
	};

	read_menu(syslinux_read, list);
	CHECK_EQ(m.nr_choices, 9);
	CHECK_EQ(chosen, 1);
	CHOICE(0, "one|One of them|/k1|/i1,/isolinux/i2|a=b c --- quiet|");
	CHOICE(1, "two|two|/isolinux/k2|/a,/b|last|");
	CHOICE(2, "three|three|/isolinux/k3||for all|");
	CHOICE(3, "four|four|/isolinux/k4|||");
	CHOICE(4, "five|five|/isolinux/chain.c32||for all|it starts a module of isolinux");
	CHOICE(5, "six|six|||for all|it does not start a Linux kernel");
	CHOICE(6, "seven|seven|/boot/memdisk|/floppy||it starts a disk image by a BIOS");
	CHOICE(7, "eight|eight|/isolinux/x.bin||for all|");
	CHOICE(8, "nine|nine|||only|");
	CHECK_EQ(m.choices[0]->pub.line, 6);
	CHECK(!strcmp(m.choices[7]->pub.file, "/isolinux/more.cfg") && m.choices[7]->pub.line == 3);
	CHECK_EQ(m.nr_notes, 0);
	menu_exit(&m);
}

TEST(isolinux_defaults)
{
	static const struct file by_menu[] = {
		{ "/a.cfg", "default a\nlabel a\nkernel a\nlabel b\nkernel b\nmenu default\n" }, { }
	}, by_timeout[] = {
		{ "/a.cfg", "ontimeout b\nlabel a\nkernel a\nlabel b\nkernel b\n" }, { }
	}, command[] = {
		{ "/a.cfg", "default vmlinuz initrd=i.img root=x\n" }, { "/vmlinuz", "" }, { }
	}, nothing[] = {
		{ "/a.cfg", "default nowhere\nlabel a\nkernel a\n" }, { }
	}, ui_file[] = {
		{ "/a.cfg", "default vesamenu.c32 b.cfg\n" }, { "/b.cfg", "label b\nkernel b\nmenu default\n" }, { }
	}, menu_last[] = {	/* as Debian's installer, whose submenu has a default of its own */
		{ "/a.cfg", "label a\nkernel a\nmenu begin\nlabel b\ndefault b\nkernel b\nmenu end\ndefault vesamenu.c32\n" }, { }
	}, menu_first[] = {
		{ "/a.cfg", "default vesamenu.c32\nlabel a\nkernel a\nlabel b\ndefault b\nkernel b\n" }, { }
	};

	read_menu(syslinux_read, menu_last);
	CHECK_EQ(chosen, -1);
	menu_exit(&m);
	read_menu(syslinux_read, menu_first);
	CHECK_EQ(chosen, 1);
	menu_exit(&m);
	read_menu(syslinux_read, by_menu);
	CHECK_EQ(chosen, 1);
	menu_exit(&m);
	read_menu(syslinux_read, by_timeout);
	CHECK_EQ(chosen, 1);
	menu_exit(&m);
	read_menu(syslinux_read, command);
	CHECK_EQ(chosen, 0);
	CHOICE(0, "default|default|/vmlinuz|/i.img|root=x|");
	menu_exit(&m);
	read_menu(syslinux_read, nothing);
	CHECK_EQ(chosen, -1);
	menu_exit(&m);
	read_menu(syslinux_read, ui_file);
	CHECK_EQ(chosen, 0);
	menu_exit(&m);
}

/* menus of their own, which lead back; a file that includes itself */
TEST(isolinux_other_menus)
{
	static const struct file list[] = {
		{ "/s/syslinux.cfg", "label a\nconfig sub/b.cfg sub\nlabel z\nkernel z\ninclude loop.cfg\ninclude gone.cfg\n" },
		{ "/s/sub/b.cfg", "default b\nlabel b\nlinux b\nlabel back\nconfig ../syslinux.cfg\nlabel back2\nconfig /s/syslinux.cfg\n" },
		{ "/s/loop.cfg", "label y\nkernel y\ninclude loop.cfg\n" },
		{ }
	};

	read_menu(syslinux_read, list);
	CHECK_EQ(m.nr_choices, 6);
	CHOICE(0, "a|a||||it is another menu");
	CHOICE(1, "b|b|/s/sub/b|||");
	CHOICE(4, "z|z|/s/z|||");
	CHOICE(5, "y|y|/s/y|||");
	CHECK_EQ(chosen, -1);
	CHECK(noted("/s/loop.cfg: /s/loop.cfg: it includes itself"));
	CHECK(noted("/s/syslinux.cfg: /s/gone.cfg: No such file"));
	menu_exit(&m);
}

/* ---- GRUB ------------------------------------------------------------------------------ */

TEST(grub)
{
	static const struct file list[] = {
		{ "/boot/grub/grub.cfg",
		  "set default=1 # the second\n"
		  "if loadfont unicode; then set gfx=yes; fi\n"
		  "if [ \"${grub_platform}\" == \"efi\" ] ; then\n  set what=\"of UEFI\"\nelse\n  set what=bios\nfi\n"
		  "menuentry 'First one' --class os --id=first --hotkey=f {\n"
		  "  set gfxpayload=keep x=leak\n  linux /k root=\"a b\" x=${what} \\\n    quiet\n  initrd /i1 ($root)/i2\n}\n"
		  "menuentry \"Second $what\" --id second \"param\" {\n linuxefi (cd0)/k2 $2 $x ; initrdefi /i\n}\n"
		  "export more=\"one two\"\n"
		  "submenu 'Others ...' {\n"
		  "  set more=\"$more three\"\n"
		  "  menuentry 'In it' { linux $prefix/k3 $more \"$more\" }\n"
		  "}\n"
		  "menuentry Windows { chainloader /bootmgr }\n"
		  "menuentry 'Nothing' {\n  echo hello\n}\n"
		  "set x=later\n" },
		{ }
	};

	read_menu(grub_read, list);
	CHECK_EQ(m.nr_choices, 5);
	CHECK_EQ(chosen, 1);
	CHOICE(0, "first|First one|/k|/i1,/i2|root=a b x=of UEFI quiet|");
	CHOICE(1, "second|Second of UEFI|/k2|/i|param later|");
	CHOICE(2, "|In it|/boot/grub/k3||one two three one two three|");
	CHOICE(3, "|Windows||||it starts another boot loader");
	CHOICE(4, "|Nothing||||it starts no Linux kernel");
	CHECK_EQ(m.choices[1]->pub.line, 14);
	CHECK_EQ(m.nr_notes, 0);
	menu_exit(&m);
}

TEST(grub_shell)
{
	static const struct file list[] = {
		{ "/boot/grub/grub.cfg",
		  "function boot_it {\n  set root=cd0\n  if [ -n \"$2\" -a ! -f /gone ]; then linux $1 n=$# \"all=$@\"; else linux no; fi\n}\n"
		  "for k in a b \"c d\"; do\n  menuentry \"For $k\" { boot_it /$k yes; }\ndone\n"
		  "set n=x\nwhile [ $n != xxx ]; do set n=x$n; done\nuntil [ $n = xxxxx ]; do n=x$n; done\n"
		  "if test -f /there -a 3 -gt 2; then source /there; elif true; then source /gone; else source /gone; fi\n"
		  "if search --no-floppy --set=root --file /gone; then source /gone; fi\n"
		  "if search --set=x -f /there; then true; else source /gone; fi\n"
		  "if [ ( a = b -o c = c ) -a ! -z x ]; then\nif false\nthen\nlinux /no\nfi\nset deep=1;fi\n"
		  "menuentry one$deep { linux /l \\$x '$x' \"\\$x\" ${deep}th $n; initrd /old; initrd /new /newer }\n"
		  "menuentry file { configfile (cd0)/other.cfg }\n"
		  "default=one1\n" },
		{ "/there", "menuentry There { linux /t $\"a b\" }\n" },
		{ "/other.cfg", "linux /o o\ninitrd /oi\nboot\n" },
		{ }
	};

	read_menu(grub_read, list);
	CHECK_EQ(m.nr_choices, 7);
	CHECK_EQ(chosen, 4);
	CHOICE(0, "|For a|/c||n=3 all=/c d yes|");	/* $k is looked at when it is chosen */
	CHOICE(3, "|There|/t||a b|");
	CHOICE(4, "|one1|/l|/new,/newer|$x $x $x 1th xxxxx|");
	CHOICE(5, "|file||||it is another menu");
	CHOICE(6, "|/other.cfg|/o|/oi|o|");
	CHECK_EQ(m.nr_notes, 0);
	menu_exit(&m);
}

TEST(grub_defaults)
{
	static const struct {
		const char *wanted;
		int nr;
	} cases[] = {
		{ "", 0 }, { "0", 0 }, { "a", 0 }, { "A title", 0 }, { "1>1", 2 }, { "sub>inner", 2 },
		{ "1>0", 1 }, { "1", 1 }, { "2", 3 }, { "9", -1 }, { "nowhere", -1 }, { "1>7", -1 },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[400];
		struct file list[] = { { "/g.cfg", text }, { } };

		snprintf(text, sizeof(text),
			 "set default=\"%s\"\nmenuentry 'A title' --id a { linux /0; }\nsubmenu s --id sub {\n"
			 "menuentry x { linux /1; }\nmenuentry y --id inner { linux /2; }\n}\nmenuentry z { linux /3; }\n",
			 cases[i].wanted);
		read_menu(grub_read, list);
		CHECK_EQ(chosen, cases[i].nr);
		CHECK_EQ(m.nr_choices, 4);
		menu_exit(&m);
	}
}

TEST(grub_mistakes)
{
	static const struct {
		const char *text, *say;
	} cases[] = {
		{ "menuentry a {\nlinux /k\n", "a block has no end" },
		{ "if true; then\nlinux /k\n", "an if has no fi" },
		{ "if true\nlinux /k\nfi\n", "an if has no then" },
		{ "while true; linux /k\n", "a loop has no do" },
		{ "for x in a; linux /k\n", "a for is followed by" },
		{ "function {\n}\n", "a function is a name and a block" },
		{ "menuentry a { linux /k }\n}\nmenuentry b { linux /k }\n", "an end without a beginning" },
		{ "source /g.cfg\n", "it includes itself" },
		{ "source /none\n", "/none: No such file" },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct file list[] = { { "/g.cfg", cases[i].text }, { } };

		read_menu(grub_read, list);
		CHECK(noted(cases[i].say));
		menu_exit(&m);
	}
}

/* ---- systemd-boot --------------------------------------------------------------------- */

TEST(systemd_boot)
{
	static const struct file list[] = {
		{ "/loader/loader.conf", "timeout 3\n# default b*\r\ndefault\tSECOND*\nconsole-mode max\n" },
		{ "/loader/entries/first.conf",
		  "# comment\ntitle   The first, of them\t\r\nversion 6.12\nmachine-id 1\nlinux /k1\n"
		  "initrd /ucode\ninitrd EFI\\arch\\i1\noptions a=b  c initrd=\\i2\noptions quiet\n\nbogus x\n linux /k\nnothing\n" },
		{ "/loader/entries/second+3-1.CONF", "linux ../../k2\n" },
		{ "/loader/entries/efi.conf", "title shell\nefi /shellx64.efi\n" },
		{ "/loader/entries/arm.conf", "architecture aa64\nlinux /k\n" },
		{ "/loader/entries/x64.conf", "architecture X64\nlinux /k\n" },
		{ "/loader/entries/uki.conf", "uki /EFI/Linux/a.efi\n" },
		{ "/loader/entries/.hidden.conf", "linux /k\n" },
		{ "/loader/entries/readme.txt", "linux /k\n" },
		{ "/loader/entries/.conf", "linux /k\n" },
		{ "/EFI/Linux/Later+2-1.efi", "" },
		{ "/EFI/Linux/.efi", "" },
		{ "/EFI/Linux/x.conf", "" },
		{ }
	};

	read_menu(bls_read, list);
	CHECK_EQ(m.nr_choices, 7);
	CHOICE(6, "Later.efi|Later.efi|/EFI/Linux/Later+2-1.efi|||");
	CHOICE(0, "x64.conf|x64.conf|/k|||");
	CHOICE(1, "uki.conf|uki.conf|/EFI/Linux/a.efi|||");
	CHOICE(2, "second.CONF|second.CONF|/../../k2|||");
	CHOICE(3, "first.conf|The first, of them|/k|/ucode,/EFI/arch/i1,/i2|a=b c quiet|");
	CHOICE(4, "efi.conf|shell|/shellx64.efi|||");
	CHOICE(5, "arm.conf|arm.conf|/k|||it is for the architecture aa64");
	CHECK_EQ(chosen, 2);
	CHECK(!strcmp(m.choices[3]->pub.file, "/loader/entries/first.conf"));
	CHECK_EQ(m.nr_notes, 0);
	menu_exit(&m);
}

/* sort-key, machine-id, newest version; then names, the greatest first; those tried in vain last */
TEST(systemd_boot_order)
{
	static const struct file list[] = {
		{ "/loader/entries/plain-6.9.conf", "" },
		{ "/loader/entries/plain-6.10.conf", "" },
		{ "/loader/entries/a.conf", "sort-key arch\nmachine-id 1\nversion 6.9\n" },
		{ "/loader/entries/b.conf", "sort-key arch\nmachine-id 1\nversion 6.10\n" },
		{ "/loader/entries/c.conf", "sort-key arch\nmachine-id 0\nversion 5\n" },
		{ "/loader/entries/d.conf", "sort-key aaa\n" },
		{ "/loader/entries/e.conf", "sort-key aaa\n" },
		{ "/loader/entries/bad+0-3.conf", "sort-key aaa\n" },
		{ "/loader/entries/good+00+1.conf", "sort-key aaa\n" },
		{ }
	};
	static const char *const order[] = { "good+00.conf", "e.conf", "d.conf", "c.conf", "b.conf", "a.conf",
					     "plain-6.10.conf", "plain-6.9.conf", "bad.conf" };

	files = (struct menu_files){ (void *)list, read_file, exists, list_dir };
	menu_init(&m, &files);
	CHECK_EQ(bls_read(&m, "/loader/loader.conf"), -1);
	CHECK_EQ(m.nr_choices, 9);
	for (unsigned int i = 0; i < 9 && i < m.nr_choices; i++)
		if (strcmp(m.choices[i]->pub.id, order[i])) {
			printf("# %u is %s\n", i, m.choices[i]->pub.id);
			CHECK(false);
		}
	CHECK_EQ(m.nr_notes, 0);
	menu_exit(&m);
}

TEST(systemd_boot_defaults)
{
	static const struct {
		const char *wanted;
		int nr;
	} cases[] = {
		{ "b.conf", 1 }, { "b", 1 }, { "B.CONF", 1 }, { "*", 0 }, { "?.conf", 0 }, { "a*f", 2 }, { "**a*.*c*", 2 },
		{ "", -1 }, { "@saved", -1 }, { "b.con", -1 }, { "?", 0 }, { "b.confx", -1 }, { "*b*b*", -1 },
		{ "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", -1 },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[400], longest[300] = "/loader/entries/0";
		struct file list[] = {
			{ "/loader/loader.conf", text }, { "/loader/entries/a.conf", "" }, { "/loader/entries/b.conf", "" },
			{ "/loader/entries/c.conf", "" }, { longest, "" }, { }
		};

		memset(longest + strlen(longest), 'a', 200);
		strcat(longest, ".conf");
		snprintf(text, sizeof(text), "default x\ndefault %s\n", cases[i].wanted);
		read_menu(bls_read, list);
		if (chosen != cases[i].nr)
			printf("# %s\n", cases[i].wanted);
		CHECK_EQ(chosen, cases[i].nr);
		menu_exit(&m);
	}
}

/* ---- hostile ones -------------------------------------------------------------------------- */

static char *repeat(const char *before, const char *what, unsigned int times, const char *after)
{
	char *text = malloc(strlen(before) + times * strlen(what) + strlen(after) + 1), *to = text;

	to = stpcpy(to, before);
	while (times--)
		to = stpcpy(to, what);
	strcpy(to, after);
	return text;
}

TEST(hostile)
{
	struct {
		int (*read)(struct menu *m, const char *path);
		char *text;
		const char *say;
	} cases[] = {
		{ grub_read, strdup("while true; do set x=x$x; done\n"), "the rest is left out" },
		{ grub_read, strdup("set x=aaaaaaaaaaaaaaaa\nwhile true; do set x=$x$x; done\n"), "the rest is left out" },
		{ grub_read, strdup("function f { f; f; }\nf\n"), "functions call each other too deep" },
		{ grub_read, repeat("", "if true; then ", 1000, ""), "blocks lie too deep" },
		{ grub_read, repeat("", "{ ", 1000, ""), "blocks lie too deep" },
		{ grub_read, repeat("", "submenu x { ", 1000, ""), "blocks lie too deep" },
		{ grub_read, repeat("if [ ", "! ", 1000, "x ]; then linux /k; fi"), NULL },
		{ grub_read, repeat("if [ ", "( ", 200, "x ]; then linux /k; fi"), NULL },
		{ grub_read, repeat("", "menuentry x { linux /k }\n", 300, ""), "more than 256 entries" },
		{ grub_read, repeat("linux /k ", "0123456789 ", 1000, ""), NULL },
		{ grub_read, repeat("linux /k ", "0123456789", 1000, ""), NULL },
		{ grub_read, repeat("initrd ", "/i ", 100, "\nlinux /k"), NULL },
		{ grub_read, repeat("", "\"", 1, ""), NULL },
		{ grub_read, repeat("", "a", 300000, ""), "256 KiB" },
		{ syslinux_read, repeat("", "label x\n", 300, ""), NULL },
		{ syslinux_read, repeat("label x\nappend ", "0123456789", 1000, ""), "a line of 10007 characters" },
		{ syslinux_read, repeat("label x\nkernel k\ninitrd ", "/i,", 1000, ""), NULL },
		{ syslinux_read, repeat("", "menu begin\n", 20000, "label x\n"), NULL },
		{ syslinux_read, repeat("", "include /nothing\n", 10000, ""), "/nothing: No such file" },
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct file list[] = { { "/g.cfg", cases[i].text }, { } };
		struct timespec t0, t1;

		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
		read_menu(cases[i].read, list);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
		CHECK(t1.tv_sec - t0.tv_sec < 20);
		CHECK(m.nr_choices <= MENU_CHOICES_MAX && m.nr_notes <= MENU_NOTES_MAX);
		CHECK(m.arena_bytes < MENU_ARENA_MAX + MENU_FILE_MAX);
		if (cases[i].say && !noted(cases[i].say)) {
			printf("# case %u\n", i);
			CHECK(false);
		}
		menu_exit(&m);
		free(cases[i].text);
	}
}

/* many entries, long ones, long lines */
TEST(systemd_boot_hostile)
{
	static char paths[400][40];
	struct file list[402] = { { "/loader/entries/0.conf", repeat("options ", "0123456789", 1000, "") },
				  { "/loader/entries/1.conf", repeat("", "options aaaaaaaaaaaaaaaaaaaaaaaaaaa\n", 7000, "") } };
	char *much = repeat("linux k\n", "initrd i\n", 20, "");

	for (int i = 2; i < 401; i++) {
		sprintf(paths[i - 2], "/loader/entries/%d.conf", i);
		list[i] = (struct file){ paths[i - 2], much };
	}
	files = (struct menu_files){ list, read_file, exists, list_dir };
	menu_init(&m, &files);
	bls_read(&m, "/loader/loader.conf");
	CHECK(m.nr_choices <= MENU_CHOICES_MAX && m.nr_notes <= MENU_NOTES_MAX);
	CHECK(m.arena_bytes < MENU_ARENA_MAX + MENU_FILE_MAX);
	CHECK(noted("more than 256 entries"));
	CHECK(noted("a line of 10008 characters"));
	menu_exit(&m);
	free(much);
	free((char *)list[0].text);
	free((char *)list[1].text);
}

/* files that include the next, without end */
TEST(too_deep)
{
	static char paths[30][20], texts[30][40];
	struct file list[31] = { 0 };

	for (int i = 0; i < 30; i++) {
		sprintf(paths[i], "/f%d", i);
		sprintf(texts[i], "include /f%d\nlabel %d\n", i + 1, i);
		list[i] = (struct file){ paths[i], texts[i] };
	}
	read_menu(syslinux_read, list);
	CHECK(noted("files include each other too deep"));
	CHECK_EQ(m.nr_choices, MENU_DEPTH_MAX);
	menu_exit(&m);
}

/* ---- whole discs ------------------------------------------------------------------------------ */

static char dir[] = "/tmp/iso-menu.XXXXXX";
static struct vmplat_iso *iso;
static struct vmplat_iso_menu *menu;

static void put(const char *path, const void *p, size_t len)
{
	char full[300], *slash;
	int fd;

	snprintf(full, sizeof(full), "%s/tree/%s", dir, path);
	for (slash = full + strlen(dir) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		mkdir(full, 0755);
	}
	fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, p, len) != (ssize_t)len)
		abort();
	close(fd);
}

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

/* the headers of one, and as much as they ask for */
static void put_kernel(const char *path, bool wide)
{
	struct setup_header h = {
		.setup_sects = 4, .boot_flag = 0xaa55, .jump = 0x6aeb, .header = 0x53726448,
		.version = 0x20f, .loadflags = LOADED_HIGH, .relocatable_kernel = 1,
		.xloadflags = wide ? XLF_KERNEL_64 : 0, .kernel_alignment = 0x200000,
		.pref_address = 0x1000000, .init_size = 0x800000, .cmdline_size = 2047,
		.initrd_addr_max = 0x7fffffff, .syssize = 0x100,
	};
	uint8_t p[5 * 512 + 0x1000] = { 0 };

	memcpy(p + 0x1f1, &h, sizeof(h));
	put(path, p, sizeof(p));
}

/* what has been put, as a disc that is open, with its menu */
static bool burn(const char *options)
{
	char cmd[1000], path[300];
	int fd, rc;

	snprintf(path, sizeof(path), "%s/disc.iso", dir);
	snprintf(cmd, sizeof(cmd), "xorriso -as mkisofs -quiet -V 'TEST DISC' %s -o %s %s/tree >%s/log 2>&1",
		 options, path, dir, dir);
	rc = system(cmd);
	if (rc) {
		snprintf(cmd, sizeof(cmd), "sed 's/^/# /' %s/log", dir);
		rc = system(cmd);
		return false;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && !vmplat_iso_open(&iso, fd) && !vmplat_iso_menu_open(&menu, iso);
}

static void clear(void)
{
	char cmd[300];

	vmplat_iso_menu_close(menu);
	vmplat_iso_close(iso);
	menu = NULL;
	iso = NULL;
	snprintf(cmd, sizeof(cmd), "rm -rf %s/tree %s/efi %s/disc.iso", dir, dir, dir);
	if (system(cmd))
		abort();
}

/* the default is this */
static void check_default(const char *kernel, const char *initrd, const char *args, const char *from)
{
	const struct vmplat_iso_choice *c;

	if (vmplat_iso_menu_pick(menu, NULL, &c)) {
		printf("# %s\n", vmplat_last_error());
		CHECK(false);
		return;
	}
	if (strcmp(c->kernel, kernel) || strcmp(c->args, args) || !c->nr_initrds ||
	    strcmp(c->initrds[c->nr_initrds - 1], initrd) || !c->is_default)
		printf("# %s, %s, '%s'\n", c->kernel, c->nr_initrds ? c->initrds[0] : "no initrd", c->args);
	CHECK(!strcmp(c->kernel, kernel) && !strcmp(c->args, args));
	CHECK(c->nr_initrds && !strcmp(c->initrds[c->nr_initrds - 1], initrd));
	CHECK(c->is_default && (from ? c->file && !strcmp(c->file, from) : !c->file));
}

static bool no_xorriso(void)
{
	if (!system("command -v xorriso >/dev/null"))
		return false;
	tap_skip("no xorriso");
	return true;
}

/* isolinux and GRUB on one disc, as Debian has it; with plain names, Joliet and Rock Ridge */
TEST(disc_debian)
{
	static const char *const options[] = { "-r -J", "-J", "" };

	if (no_xorriso())
		return;
	for (int i = 0; i < 3; i++) {
		put_kernel("install.amd/vmlinuz", true);
		put_text("install.amd/initrd.gz", "ramdisk");
		put_text("isolinux/isolinux.cfg", "path\ninclude menu.cfg\ndefault vesamenu.c32\n");
		put_text("isolinux/menu.cfg", "menu title x\ninclude gtk.cfg\ninclude txt.cfg\n");
		put_text("isolinux/txt.cfg", "label install\n\tmenu label ^Install\n\tkernel /install.amd/vmlinuz\n"
			 "\tappend vga=788 initrd=/install.amd/initrd.gz --- quiet\n");
		put_text("boot/grub/grub.cfg", "menuentry Install {\n linux /install.amd/vmlinuz\n initrd /install.amd/initrd.gz\n}\n");
		REQUIRE(burn(options[i]));
		CHECK_EQ(vmplat_iso_menu_nr(menu), 2);
		check_default("/install.amd/vmlinuz", "/install.amd/initrd.gz", "vga=788 --- quiet",
			      "/isolinux/txt.cfg");
		clear();
	}
}

TEST(disc_ubuntu)
{
	if (no_xorriso())
		return;
	put_kernel("casper/vmlinuz", true);
	put_text("casper/initrd", "ramdisk");
	put_text("boot/grub/grub.cfg", "set timeout=30\nloadfont unicode\nset menu_color_normal=white/black\n"
		 "menuentry \"Try or install\" {\n\tset gfxpayload=keep\n\tlinux\t/casper/vmlinuz  --- quiet splash\n"
		 "\tinitrd\t/casper/initrd\n}\ngrub_platform\nif [ \"$grub_platform\" = \"efi\" ]; then\n"
		 "menuentry 'Boot from next volume' {\n\texit 1\n}\nmenuentry 'UEFI Firmware Settings' {\n\tfwsetup\n}\nfi\n");
	REQUIRE(burn("-r"));
	CHECK_EQ(vmplat_iso_menu_nr(menu), 3);
	check_default("/casper/vmlinuz", "/casper/initrd", "--- quiet splash", "/boot/grub/grub.cfg");
	clear();
}

TEST(disc_fedora)
{
	if (no_xorriso())
		return;
	put_kernel("images/pxeboot/vmlinuz", true);
	put_text("images/pxeboot/initrd.img", "ramdisk");
	put_text("EFI/BOOT/grub.cfg", "set default=\"1\"\nfunction load_video {\n  insmod all_video\n}\nload_video\n"
		 "search --no-floppy --set=root -l 'TEST DISC'\nmenuentry 'Install' --class fedora {\n"
		 "\tlinuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=X quiet\n\tinitrdefi /images/pxeboot/initrd.img\n}\n"
		 "menuentry 'Test this media' --class fedora {\n\tlinuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=X rd.live.check\n"
		 "\tinitrdefi /images/pxeboot/initrd.img\n}\n");
	REQUIRE(burn("-r"));
	check_default("/images/pxeboot/vmlinuz", "/images/pxeboot/initrd.img",
		      "inst.stage2=hd:LABEL=X rd.live.check", "/EFI/BOOT/grub.cfg");
	clear();
}

TEST(disc_arch)
{
	if (no_xorriso())
		return;
	put_kernel("arch/boot/x86_64/vmlinuz-linux", true);
	put_text("arch/boot/x86_64/initramfs-linux.img", "ramdisk");
	put_text("boot/syslinux/syslinux.cfg", "DEFAULT select\n\nLABEL select\nCOM32 whichsys.c32\nAPPEND -pxe- pxe -sys- sys -iso- sys\n\n"
		 "LABEL pxe\nCONFIG archiso_pxe.cfg\n\nLABEL sys\nCONFIG archiso_sys.cfg\n");
	put_text("boot/syslinux/archiso_sys.cfg", "INCLUDE archiso_head.cfg\nDEFAULT arch64\nLABEL arch64\nTEXT HELP\nBoot it.\nENDTEXT\n"
		 "MENU LABEL Arch Linux\nLINUX /arch/boot/x86_64/vmlinuz-linux\nINITRD /arch/boot/x86_64/initramfs-linux.img\n"
		 "APPEND archisobasedir=arch archisosearchuuid=1\n");
	put_text("boot/syslinux/archiso_head.cfg", "MENU TITLE Arch\nMENU BACKGROUND splash.png\n");
	REQUIRE(burn("-r"));
	check_default("/arch/boot/x86_64/vmlinuz-linux", "/arch/boot/x86_64/initramfs-linux.img",
		      "archisobasedir=arch archisosearchuuid=1", "/boot/syslinux/archiso_sys.cfg");
	clear();
}

TEST(disc_alpine)
{
	if (no_xorriso())
		return;
	put_kernel("boot/vmlinuz-virt", true);
	put_text("boot/initramfs-virt", "ramdisk");
	put_text("boot/syslinux/syslinux.cfg", "TIMEOUT 10\nPROMPT 1\nDEFAULT virt\n\nLABEL virt\nMENU LABEL Linux virt\n"
		 "KERNEL /boot/vmlinuz-virt\nINITRD /boot/initramfs-virt\nFDTDIR /boot/dtbs-virt\nAPPEND modules=loop quiet\n");
	REQUIRE(burn("-r"));
	check_default("/boot/vmlinuz-virt", "/boot/initramfs-virt", "modules=loop quiet",
		      "/boot/syslinux/syslinux.cfg");
	clear();
}

/* what is in "../efi" becomes the boot image for UEFI */
static bool burn_efi(void)
{
	char cmd[800];

	snprintf(cmd, sizeof(cmd), "mkdir -p %s/tree && cd %s && truncate -s 2M tree/efi.img && "
		 "PATH=$PATH:/usr/sbin:/sbin mkfs.vfat tree/efi.img >log 2>&1 && mcopy -s -i tree/efi.img efi/* :: >>log 2>&1",
		 dir, dir);
	return !system(cmd) && burn("-r -eltorito-alt-boot -e efi.img -no-emul-boot");
}

static bool no_mtools(void)
{
	if (!system("PATH=$PATH:/usr/sbin:/sbin; (command -v xorriso && command -v mkfs.vfat && command -v mcopy) >/dev/null"))
		return false;
	tap_skip("no xorriso, mtools or dosfstools");
	return true;
}

/* systemd-boot in the boot image for UEFI, with its kernel, as Arch has it beside syslinux */
TEST(disc_efi_systemd_boot)
{
	const struct vmplat_iso_choice *c;

	if (no_mtools())
		return;
	put_text("../efi/loader/loader.conf", "timeout 15\ndefault 01-arch*.conf\n");
	put_text("../efi/loader/entries/02-speech.conf", "title With speech\nlinux /arch/boot/vmlinuz-linux\n"
		 "initrd /arch/boot/initramfs.img\noptions accessibility=on\n");
	put_text("../efi/loader/entries/01-archiso-x86_64-linux.conf", "title    Arch Linux install medium\n"
		 "sort-key 01\nlinux    /arch/boot/vmlinuz-linux\ninitrd   /arch/boot/initramfs.img\n"
		 "options  archisobasedir=arch archisosearchuuid=1\n");
	put_kernel("../efi/arch/boot/vmlinuz-linux", true);
	put_text("../efi/arch/boot/initramfs.img", "ramdisk");
	put_text("readme", "nothing to boot here");
	REQUIRE(burn_efi());
	CHECK_EQ(vmplat_iso_menu_nr(menu), 2);
	CHECK_EQ(vmplat_iso_tree(iso), VMPLAT_ISO_RR);
	check_default("efi:/arch/boot/vmlinuz-linux", "efi:/arch/boot/initramfs.img",
		      "archisobasedir=arch archisosearchuuid=1", "efi:/loader/entries/01-archiso-x86_64-linux.conf");
	CHECK(!vmplat_iso_menu_pick(menu, "02-speech.conf", &c) && !strcmp(c->args, "accessibility=on"));
	clear();

	/* another menu goes first, and the disc has the initrd only outside */
	put_text("../efi/loader/entries/a.conf", "linux /vmlinuz\ninitrd /initrd\n");
	put_kernel("../efi/vmlinuz", true);
	put_text("initrd", "ramdisk");
	put_kernel("k", true);
	put_text("isolinux.cfg", "label a\nkernel k\ninitrd initrd\n");
	REQUIRE(burn_efi());
	CHECK_EQ(vmplat_iso_menu_nr(menu), 2);
	check_default("/k", "/initrd", "", "/isolinux.cfg");
	CHECK(!vmplat_iso_menu_pick(menu, "a.conf", &c) && !strcmp(c->kernel, "efi:/vmlinuz") &&
	      !strcmp(c->initrds[0], "/initrd"));
	clear();
}

/* a unified kernel image, as the second type has them */
TEST(disc_efi_uki)
{
	uint8_t p[0x4000] = "MZ";
	const struct vmplat_iso_choice *c;

	if (no_mtools())
		return;
	p[0x3c] = 0x80;
	memcpy(p + 0x80, "PE\0\0", 4);
	p[0x86] = 1;
	memcpy(p + 0x98, ".linux\0\0", 8);
	put("../efi/EFI/Linux/b.efi", p, sizeof(p));
	p[0x98] = 'x';
	put("../efi/EFI/Linux/c.efi", p, sizeof(p));
	put_text("readme", "nothing to boot here");
	REQUIRE(burn_efi());
	CHECK_EQ(vmplat_iso_menu_nr(menu), 2);
	CHECK(!vmplat_iso_menu_pick(menu, NULL, &c) && !strcmp(c->kernel, "efi:/EFI/Linux/b.efi"));
	CHECK_EQ(vmplat_iso_menu_pick(menu, "c.efi", &c), -ENOEXEC);
	clear();
}

/* on the disc itself */
TEST(disc_systemd_boot)
{
	if (no_xorriso())
		return;
	put_kernel("vmlinuz", true);
	put_text("initrd", "ramdisk");
	put_text("loader/entries/a.conf", "title a\nlinux /vmlinuz\ninitrd /initrd\noptions quiet\n");
	REQUIRE(burn("-r"));
	check_default("/vmlinuz", "/initrd", "quiet", "/loader/entries/a.conf");
	clear();
}

/* GRUB in the boot image finds the disc, and goes on there; or is all there is */
TEST(disc_efi_grub)
{
	if (no_mtools())
		return;
	put_kernel("install.amd/vmlinuz", true);
	put_text("install.amd/initrd.gz", "ramdisk");
	put_text(".disk/id", "x");
	put_text("boot/grub/grub.cfg", "menuentry Install {\n linux /install.amd/vmlinuz quiet\n initrd /install.amd/initrd.gz\n}\n");
	put_text("../efi/efi/boot/grub.cfg", "search --file --set=root /.disk/id\nset prefix=($root)/boot/grub\n"
		 "source $prefix/grub.cfg\nmenuentry 'Of the image' {\n linux /install.amd/vmlinuz\n}\n");
	REQUIRE(burn_efi());
	CHECK_EQ(vmplat_iso_menu_nr(menu), 2);
	check_default("/install.amd/vmlinuz", "/install.amd/initrd.gz", "quiet", "/boot/grub/grub.cfg");
	clear();

	put_kernel("../efi/k", true);
	put_text("../efi/i", "ramdisk");
	put_text("../efi/EFI/BOOT/grub.cfg", "menuentry a {\n linux /k\n}\nset default=1\nmenuentry b {\n linux /k b\n initrd /i\n}\n");
	REQUIRE(burn_efi());
	check_default("efi:/k", "efi:/i", "b", "efi:/EFI/BOOT/grub.cfg");
	clear();
}

/* no menu that is understood: where distributions put it */
TEST(disc_known)
{
	static const struct {
		const char *kernel, *initrd, *args;
	} places[] = {
		{ "/install.amd/vmlinuz", "/install.amd/initrd.gz", "quiet" },
		{ "/live/vmlinuz", "/live/initrd.img", "boot=live components" },
		{ "/casper/vmlinuz", "/casper/initrd.lz", "boot=casper" },
		{ "/images/pxeboot/vmlinuz", "/images/pxeboot/initrd.img", "inst.stage2=hd:LABEL=TEST\\x20DISC" },
		{ "/arch/boot/x86_64/vmlinuz-linux", "/arch/boot/x86_64/initramfs-linux.img",
		  "archisobasedir=arch archisolabel=TEST\\x20DISC" },
		{ "/boot/vmlinuz-lts", "/boot/initramfs-lts", "modules=loop,squashfs,sd-mod,usb-storage" },
		{ "/linux", "/initrd.gz", "" },
	};

	if (no_xorriso())
		return;
	for (unsigned int i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		put_kernel(places[i].kernel + 1, true);
		put_text(places[i].initrd + 1, "ramdisk");
		put_text("isolinux/isolinux.cfg", "label x\nkernel gone\n");
		REQUIRE(burn("-r"));
		check_default(places[i].kernel, places[i].initrd, places[i].args, NULL);
		clear();
	}
}

static void check_nothing(const char *say)
{
	const struct vmplat_iso_choice *c;

	CHECK(vmplat_iso_menu_pick(menu, NULL, &c) < 0 && !c);
	if (!strstr(vmplat_last_error(), say))
		printf("# %s\n", vmplat_last_error());
	CHECK(strstr(vmplat_last_error(), say));
}

TEST(disc_nothing)
{
	const struct vmplat_iso_choice *c;

	if (no_xorriso())
		return;
	put_text("readme", "nothing to boot");
	REQUIRE(burn("-r"));
	check_nothing("no boot menu of isolinux, GRUB or systemd-boot, and no kernel where");
	clear();

	put_text("isolinux.cfg", "label a\nkernel gone\nlabel b\nkernel text\nlabel c\nkernel old\nlabel d\nkernel new\ninitrd gone\n"
		 "label e\nkernel new\ninitrd empty\nlabel f\nkernel dir\nlabel g\nkernel esc\x1b[31m\nlabel h\n");
	put_text("text", "no kernel");
	put_text("empty", "");
	put_text("dir/file", "");
	put_kernel("old", false);
	put_kernel("new", true);
	REQUIRE(burn("-r"));
	check_nothing("none of the 8 entries of its boot menu can be booted; 'a', for one: kernel /gone: ");
	CHECK_EQ(vmplat_iso_menu_pick(menu, "b", &c), -ENOEXEC);
	CHECK(strstr(vmplat_last_error(), "entry 2, 'b': kernel /text: it is neither a bzImage nor an ELF"));
	CHECK_EQ(vmplat_iso_menu_pick(menu, "3", &c), -ENOEXEC);
	CHECK(strstr(vmplat_last_error(), "kernel /old: it is a 32-bit kernel"));
	CHECK_EQ(vmplat_iso_menu_pick(menu, "d", &c), -ENOEXEC);
	CHECK(strstr(vmplat_last_error(), "initrd /gone: "));
	CHECK_EQ(vmplat_iso_menu_pick(menu, "e", &c), -ENOEXEC);
	CHECK(strstr(vmplat_last_error(), "initrd /empty: it is empty"));
	CHECK_EQ(vmplat_iso_menu_pick(menu, "f", &c), -ENOEXEC);
	CHECK(strstr(vmplat_last_error(), "kernel /dir: it is no regular file"));
	CHECK(!strcmp(vmplat_iso_menu_choice(menu, 6)->kernel, "/esc?[31m"));
	CHECK_EQ(vmplat_iso_menu_pick(menu, "h", &c), -ENOEXEC);
	CHECK(strstr(vmplat_last_error(), "it names no kernel"));
	CHECK_EQ(vmplat_iso_menu_pick(menu, "nope", &c), -ENOENT);
	CHECK_EQ(vmplat_iso_menu_pick(menu, "9", &c), -ENOENT);
	CHECK_EQ(vmplat_iso_menu_pick(menu, "0", &c), -ENOENT);
	clear();
}

/* a default that cannot be booted is not insisted on; a choice by number, label, title */
TEST(disc_choices)
{
	const struct vmplat_iso_choice *c;

	if (no_xorriso())
		return;
	put_kernel("k", true);
	put_text("i", "ramdisk");
	put_text("isolinux.cfg", "default a\nlabel a\nlocalboot 0\nlabel b\nmenu label B title\nkernel k\ninitrd i\nlabel c\nkernel k\ninitrd i\n");
	REQUIRE(burn("-r"));
	check_default("/k", "/i", "", "/isolinux.cfg");
	CHECK(!vmplat_iso_menu_pick(menu, "3", &c) && !strcmp(c->id, "c") && !c->is_default);
	CHECK(!vmplat_iso_menu_pick(menu, "b", &c) && !strcmp(c->id, "b") && c->is_default);
	CHECK(!vmplat_iso_menu_pick(menu, "B title", &c) && !strcmp(c->id, "b"));
	CHECK(!vmplat_iso_menu_choice(menu, 3));
	clear();
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	RUN(isolinux);
	RUN(isolinux_defaults);
	RUN(isolinux_other_menus);
	RUN(grub);
	RUN(grub_shell);
	RUN(grub_defaults);
	RUN(grub_mistakes);
	RUN(systemd_boot);
	RUN(systemd_boot_order);
	RUN(systemd_boot_defaults);
	RUN(hostile);
	RUN(systemd_boot_hostile);
	RUN(too_deep);
	RUN(disc_debian);
	RUN(disc_ubuntu);
	RUN(disc_fedora);
	RUN(disc_arch);
	RUN(disc_alpine);
	RUN(disc_systemd_boot);
	RUN(disc_efi_systemd_boot);
	RUN(disc_efi_uki);
	RUN(disc_efi_grub);
	RUN(disc_known);
	RUN(disc_nothing);
	RUN(disc_choices);
	{
		char cmd[100];

		snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
		if (system(cmd))
			return 1;
	}
	return tap_done();
}

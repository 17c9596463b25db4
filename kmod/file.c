// SPDX-License-Identifier: GPL-2.0
/*
 * A memory as a file: mmap and its faults, read, write, fallocate, lseek.
 *
 * There are three ways in for new content, and all pass the gate in view.c: a
 * PTE that becomes writable (page_mkwrite), write(2), and the removal of pages.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/uio.h>

#include "vmplat.h"

/* Pages removed under one hold of freeze_sem. */
#define PUNCH_PAGES	512

/* ---- mmap ------------------------------------------------------------------ */

static vm_fault_t error_to_fault(int err)
{
	switch (err) {
	case 0:
		return VM_FAULT_LOCKED;
	case -EAGAIN:
	case -EINTR:
		return VM_FAULT_NOPAGE;	/* touch it again, signals first */
	case -ENOMEM:
		return VM_FAULT_OOM;
	default:
		return VM_FAULT_SIGBUS;
	}
}

/*
 * The page is missing. Whoever supplies it may need this mm's mmap_lock, be it
 * only for malloc(), and get_user_pages() would hold it over any number of
 * retries: so it is dropped wherever the caller can take that.
 */
static vm_fault_t wait_for_fill(struct vm_fault *vmf, struct vmplat_mem *mem)
{
	pgoff_t index = vmf->pgoff;
	struct file *file;
	int err;

	/* Who must not sleep is told to come back from where it may. */
	if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
		return VM_FAULT_RETRY;
	/* Nor can an error be told once the lock is gone. */
	if (vmplat_fill_is_dead(mem) ||
	    !(vmf->flags & FAULT_FLAG_ALLOW_RETRY)) {
		err = vmplat_fill_wait(mem, index);
		return err ? error_to_fault(err) : VM_FAULT_NOPAGE;
	}
	file = get_file(vmf->vma->vm_file);	/* keeps @mem when @vma goes */
	vmplat_release_fault_lock(vmf);
	vmplat_fill_wait(mem, index);
	fput(file);
	return VM_FAULT_RETRY;
}

static vm_fault_t mem_fault(struct vm_fault *vmf)
{
	struct vmplat_mem *mem = vmplat_mem(file_inode(vmf->vma->vm_file));
	struct folio *folio;

	if (vmf->pgoff >= mem->nr_pages)
		return VM_FAULT_SIGBUS;
	folio = vmplat_mem_folio_get(mem, vmf->pgoff);
	if (!IS_ERR(folio)) {
		vmf->page = folio_page(folio, 0);
		return VM_FAULT_LOCKED;
	}
	if (PTR_ERR(folio) != -EAGAIN)
		return error_to_fault(PTR_ERR(folio));

	return wait_for_fill(vmf, mem);
}

/*
 * Gives the PTE that was found read-only its permission. The kernel would do that
 * itself, and then mark a folio dirty that always is, and balance dirty pages where
 * none is ever written back. As there, the folio lock keeps harvests away meanwhile.
 * False if there is no such PTE: the page was missing until this fault, or the PTE
 * has changed.
 *
 * It is left clean: whoever writes through it makes it dirty, and a vCPU does not
 * write through it; see protect_run(). Only the soft-dirty bit is for the fault to
 * set. Who faults has mmap_lock or the VMA's lock, which keep page tables where they
 * are.
 */
static bool make_writable(struct vm_fault *vmf)
{
	bool made = false;
/* Elsewhere a PTE is more than a word to store, or its table may be freed. */
#if defined(CONFIG_X86_64) && !defined(CONFIG_PT_RECLAIM)
	pte_t old = vmf->orig_pte, new;

	if (!vmf->pte || !(vmf->vma->vm_flags & VM_WRITE))
		return false;
	new = vmplat_pte_mkwrite(pte_mksoft_dirty(pte_mkyoung(old)));
	spin_lock(vmf->ptl);
	made = pte_same(*vmf->pte, old);
	if (made)
		set_pte(vmf->pte, new);
	spin_unlock(vmf->ptl);
#endif
	return made;
}

static vm_fault_t mem_page_mkwrite(struct vm_fault *vmf)
{
	struct vmplat_mem *mem = vmplat_mem(file_inode(vmf->vma->vm_file));
	struct folio *folio = page_folio(vmf->page);
	int err = vmplat_write_begin(mem, folio);

	if (err || !make_writable(vmf))
		return error_to_fault(err);
	folio_unlock(folio);
	return VM_FAULT_NOPAGE;		/* there is nothing left to do */
}

static const struct vm_operations_struct mem_vm_ops = {
	.fault = mem_fault,
	.map_pages = filemap_map_pages,
	.page_mkwrite = mem_page_mkwrite,
};

static const struct vm_operations_struct pinnable_vm_ops = {
	.open = vmplat_pinnable_open,
	.close = vmplat_pinnable_close,
	.fault = mem_fault,
	.map_pages = filemap_map_pages,
};

static int mem_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vmplat_mem *mem = vmplat_mem_of(file);
	int err;

	/* A private copy would be invisible to logs and views. */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	err = vmplat_mem_use(mem);
	if (err)
		return err;
	if (mem->pinnable) {
		vma->vm_ops = &pinnable_vm_ops;
		vmplat_pinnable_open(vma);
	} else {
		vma->vm_ops = &mem_vm_ops;
	}
	return 0;
}

/* ---- read --------------------------------------------------------------------- */

static ssize_t read_page(struct inode *inode, u64 index, size_t offset,
			 size_t bytes, struct iov_iter *to)
{
	struct vmplat_mem *mem = vmplat_mem(inode);
	struct folio *folio;
	size_t copied;
	int err;

	while (vmplat_mem_find(mem, index, &folio)) {
		err = vmplat_fill_wait(mem, index);
		if (err && err != -EAGAIN)
			return err;
	}
	if (!folio)
		return iov_iter_zero(bytes, to);
	copied = vmplat_copy_page(folio_page(folio, 0), offset, bytes, to);
	folio_put(folio);
	return copied;
}

/**
 * vmplat_read_iter - read a file page by page
 * @iocb: where
 * @to: whither
 * @size: length of the file
 * @read_page: reads within one page; returns bytes, fewer only if @to faulted,
 *	or an error
 */
ssize_t vmplat_read_iter(struct kiocb *iocb, struct iov_iter *to, loff_t size,
			 ssize_t (*read_page)(struct inode *inode, u64 page,
					      size_t offset, size_t bytes,
					      struct iov_iter *to))
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t done = 0, n = 0;

	if (iocb->ki_pos >= size)
		return 0;
	iov_iter_truncate(to, size - iocb->ki_pos);
	while (iov_iter_count(to)) {
		size_t offset = offset_in_page(iocb->ki_pos);
		size_t bytes = min(PAGE_SIZE - offset, iov_iter_count(to));

		n = read_page(inode, iocb->ki_pos >> PAGE_SHIFT, offset, bytes,
			      to);
		if (n <= 0)
			break;
		iocb->ki_pos += n;
		done += n;
		if (n < bytes)
			break;
		if (fatal_signal_pending(current)) {
			n = -EINTR;
			break;
		}
		cond_resched();
	}
	if (done)
		return done;
	return n < 0 ? n : iov_iter_count(to) ? -EFAULT : 0;
}

static ssize_t mem_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	return vmplat_read_iter(iocb, to,
				i_size_read(file_inode(iocb->ki_filp)),
				read_page);
}

/* ---- write --------------------------------------------------------------------- */

/* The page at @index through the gate: locked, counted dirty, with a reference. */
static struct folio *write_begin(struct vmplat_mem *mem, pgoff_t index)
{
	struct folio *folio;
	int err;

	for (;;) {
		folio = vmplat_mem_folio_get(mem, index);
		if (IS_ERR(folio)) {
			err = PTR_ERR(folio);
			if (err == -EAGAIN)
				err = vmplat_fill_wait(mem, index);
		} else {
			folio_unlock(folio);
			err = vmplat_write_begin(mem, folio);
			if (!err)
				return folio;
			folio_put(folio);
		}
		if (err && err != -EAGAIN)
			return ERR_PTR(err);
		cond_resched();
	}
}

static void write_end(struct folio *folio)
{
	folio_unlock(folio);
	folio_put(folio);
}

static ssize_t write_page(struct vmplat_mem *mem, pgoff_t index, size_t offset,
			  size_t bytes, struct iov_iter *from)
{
	struct folio *folio;
	size_t copied;

	/*
	 * The copy happens under the folio lock, where a fault on the source
	 * could need the same lock: it is made present first, and the copy
	 * gives up rather than fault.
	 */
	do {
		if (fault_in_iov_iter_readable(from, bytes) == bytes)
			return -EFAULT;
		folio = write_begin(mem, index);
		if (IS_ERR(folio))
			return PTR_ERR(folio);
		copied = vmplat_copy_from_iter(folio, offset, bytes, from);
		write_end(folio);
		cond_resched();
	} while (!copied && !fatal_signal_pending(current));
	return copied ? copied : -EINTR;
}

static ssize_t mem_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	struct vmplat_mem *mem = vmplat_mem(inode);
	ssize_t done = 0, n;

	inode_lock(inode);
	n = generic_write_checks(iocb, from);
	if (n <= 0)
		goto unlock;
	n = file_remove_privs(iocb->ki_filp);
	if (n)
		goto unlock;
	if (iocb->ki_pos + iov_iter_count(from) > i_size_read(inode)) {
		n = vmplat_mem_resize(mem, iocb->ki_pos + iov_iter_count(from));
		if (n == -EBUSY)
			n = -EFBIG;	/* what write(2) calls a fixed end */
		if (n)
			goto unlock;
	}
	while (iov_iter_count(from)) {
		size_t offset = offset_in_page(iocb->ki_pos);
		size_t bytes = min(PAGE_SIZE - offset, iov_iter_count(from));

		n = write_page(mem, iocb->ki_pos >> PAGE_SHIFT, offset, bytes,
			       from);
		if (n < 0)
			break;
		iocb->ki_pos += n;
		done += n;
	}
	if (done)
		vmplat_inode_touch(inode, false);
unlock:
	inode_unlock(inode);
	return done ? done : n;
}

/* ---- fallocate ------------------------------------------------------------------- */

static int zero_within_page(struct vmplat_mem *mem, loff_t from, loff_t to)
{
	struct folio *folio;

	if (!vmplat_mem_has(mem, from >> PAGE_SHIFT))
		return 0;
	folio = write_begin(mem, from >> PAGE_SHIFT);
	if (IS_ERR(folio))
		return PTR_ERR(folio);
	folio_zero_range(folio, offset_in_page(from), to - from);
	write_end(folio);
	return 0;
}

/*
 * A view may need what a missing page will hold, so it is filled before it is
 * removed.
 */
static int wait_filled(struct vmplat_mem *mem, pgoff_t first, pgoff_t nr)
{
	pgoff_t index;
	int err;

	while ((index = vmplat_fill_next_missing(mem, first)) < first + nr) {
		err = vmplat_fill_wait(mem, index);
		if (err && err != -EAGAIN)
			return err;
	}
	return 0;
}

/* Remove up to PUNCH_PAGES whole pages. */
static int punch_pages(struct vmplat_mem *mem, pgoff_t first, pgoff_t nr)
{
	DECLARE_BITMAP(present, PUNCH_PAGES) = {};
	struct address_space *mapping = vmplat_mapping(mem);
	pgoff_t i;
	int err;

	err = wait_filled(mem, first, nr);
	if (!err)
		err = vmplat_punch_begin(mem, first, nr);
	if (err)
		return err;
	filemap_invalidate_lock(mapping);
	/* No page can come any more; mark also those that came meanwhile. */
	for (i = vmplat_mem_next_present(mem, first); i < first + nr;
	     i = vmplat_mem_next_present(mem, i + 1))
		__set_bit(i - first, present);
	vmplat_block_break(mem, first, first + nr - 1);
	truncate_pagecache_range(&mem->inode, first << PAGE_SHIFT,
				 ((first + nr) << PAGE_SHIFT) - 1);
	vmplat_mem_uncharge_removed(mem);
	filemap_invalidate_unlock(mapping);
	/*
	 * The page's absence is its new content: a harvest that comes now finds
	 * the mark, and nothing to write-protect.
	 */
	for_each_set_bit(i, present, nr)
		vmplat_dirty_set(mem, first + i);
	vmplat_punch_end(mem);
	return 0;
}

/* Pages that a device reaches are not removed, and i_rwsem keeps more from coming. */
static bool is_pinned(struct vmplat_mem *mem, pgoff_t first, pgoff_t end)
{
	struct address_space *mapping = vmplat_mapping(mem);
	bool pinned;

	filemap_invalidate_lock_shared(mapping);
	pinned = first < end && vmplat_pin_on(mem, first, end - 1);
	filemap_invalidate_unlock_shared(mapping);
	return pinned;
}

static int punch(struct vmplat_mem *mem, loff_t from, loff_t to)
{
	pgoff_t first = DIV_ROUND_UP_ULL(from, PAGE_SIZE);
	pgoff_t end = to >> PAGE_SHIFT;
	int err;

	if (first > end)	/* within one page */
		return zero_within_page(mem, from, to);
	if (is_pinned(mem, first, end))
		return -EBUSY;
	if (offset_in_page(from)) {
		err = zero_within_page(mem, from, first << PAGE_SHIFT);
		if (err)
			return err;
	}
	if (offset_in_page(to)) {
		err = zero_within_page(mem, end << PAGE_SHIFT, to);
		if (err)
			return err;
	}
	while (first < end) {
		pgoff_t nr = min_t(pgoff_t, end - first, PUNCH_PAGES);

		err = punch_pages(mem, first, nr);
		if (!err)
			first += nr;
		else if (err != -EAGAIN)
			return err;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/* Make pages exist; their content, zeroes, does not change. */
static int populate(struct vmplat_mem *mem, loff_t from, loff_t to)
{
	pgoff_t index;

	for (index = from >> PAGE_SHIFT; index < DIV_ROUND_UP_ULL(to, PAGE_SIZE);
	     index++) {
		struct folio *folio = vmplat_mem_folio_get(mem, index);

		if (IS_ERR(folio)) {
			if (PTR_ERR(folio) == -EAGAIN)
				continue;	/* missing: its filler brings it */
			return PTR_ERR(folio);
		}
		write_end(folio);
		if (signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

static long mem_fallocate(struct file *file, int mode, loff_t offset, loff_t len)
{
	struct inode *inode = file_inode(file);
	struct vmplat_mem *mem = vmplat_mem(inode);
	loff_t size, to = offset + len;
	long err = 0;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;
	inode_lock(inode);
	if (mode & FALLOC_FL_PUNCH_HOLE) {
		size = i_size_read(inode);
		if (offset < size)
			err = punch(mem, offset, min(to, size));
	} else {
		if (to > i_size_read(inode) && !(mode & FALLOC_FL_KEEP_SIZE))
			err = vmplat_mem_resize(mem, to);
		size = i_size_read(inode);
		if (!err && offset < size)
			err = populate(mem, offset, min(to, size));
	}
	if (!err)
		vmplat_inode_touch(inode, false);
	inode_unlock(inode);
	return err;
}

/* ---- lseek ---------------------------------------------------------------------- */

static pgoff_t seek_page(struct vmplat_mem *mem, pgoff_t index, bool data)
{
	if (data)
		return min_t(u64, vmplat_mem_next(mem, index), mem->nr_pages);
	while (index < mem->nr_pages && vmplat_mem_has(mem, index)) {
		index++;
		cond_resched();
	}
	return index;
}

static loff_t seek_extent(struct inode *inode, loff_t offset, bool data)
{
	loff_t size = i_size_read(inode);
	pgoff_t page;

	if (offset < 0 || offset >= size)
		return -ENXIO;
	page = seek_page(vmplat_mem(inode), offset >> PAGE_SHIFT, data);
	if (data && page >= vmplat_mem(inode)->nr_pages)
		return -ENXIO;
	return min(max_t(loff_t, offset, (loff_t)page << PAGE_SHIFT), size);
}

static loff_t mem_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return generic_file_llseek(file, offset, whence);
	offset = seek_extent(inode, offset, whence == SEEK_DATA);
	if (offset < 0)
		return offset;
	return vfs_setpos(file, offset, inode->i_sb->s_maxbytes);
}

/* ---- the rest -------------------------------------------------------------------- */

static void mem_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct vmplat_mem *mem = vmplat_mem_of(file);
	struct list_head *pos;
	int logs = 0;

	mutex_lock(&mem->lock);
	list_for_each(pos, &mem->logs)
		logs++;
	seq_printf(m, "vmplat-mem-id:\t%llu\n", mem->id);
	seq_printf(m, "vmplat-kind:\t%s\n", mem->pinnable ? "pinnable" : "freezable");
	seq_printf(m, "vmplat-pages:\t%llu\n", mem->nr_pages);
	seq_printf(m, "vmplat-present:\t%lu\n", vmplat_mapping(mem)->nrpages);
	seq_printf(m, "vmplat-unharvested:\t%lld\n",
		   atomic64_read(&mem->nr_dirty));
	seq_printf(m, "vmplat-harvests:\t%llu\n", mem->nr_harvests);
	seq_printf(m, "vmplat-logs:\t%d\n", logs);
	seq_printf(m, "vmplat-views:\t%d\n", READ_ONCE(mem->nr_parts));
	seq_printf(m, "vmplat-blocks:\t%lu\n", vmplat_block_count(mem));
	seq_printf(m, "vmplat-pins:\t%u\n", READ_ONCE(mem->nr_pins));
	seq_printf(m, "vmplat-device-pages:\t%llu\n", vmplat_pin_count(mem));
	seq_printf(m, "vmplat-room-wait-ns:\t%lld\n",
		   atomic64_read(&mem->room_wait_ns));
	mutex_unlock(&mem->lock);
	vmplat_pool_show(m, mem);
}

static int mem_setattr(struct vmplat_idmap *idmap, struct dentry *dentry,
		       struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	int err;

	err = setattr_prepare(idmap, dentry, attr);
	if (err)
		return err;
	if (attr->ia_valid & ATTR_SIZE) {
		err = vmplat_mem_resize(vmplat_mem(inode), attr->ia_size);
		if (err)
			return err;
	}
	setattr_copy(idmap, inode, attr);
	return 0;
}

static int mem_getattr(struct vmplat_idmap *idmap, const struct path *path,
		       struct kstat *stat, u32 mask, unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	struct vmplat_mem *mem = vmplat_mem(inode);
	u64 nr = inode->i_mapping->nrpages;

	/* To tar -S a file without blocks is one hole, whatever lseek says. */
	if (vmplat_fill_next_missing(mem, 0) != ULONG_MAX)
		nr = mem->nr_pages;
	vmplat_generic_fillattr(idmap, mask, inode, stat);
	stat->blocks = nr << (PAGE_SHIFT - 9);
	return 0;
}

const struct inode_operations vmplat_mem_iops = {
	.setattr = mem_setattr,
	.getattr = mem_getattr,
};

/*
 * vmplat_dirty_folio - somebody wrote through a reference, or a dirty PTE goes
 * away; see dirty.c
 */
bool vmplat_dirty_folio(struct address_space *mapping, struct folio *folio)
{
	struct vmplat_mem *mem = vmplat_mem(mapping->host);

	if (folio->index < mem->nr_pages)
		vmplat_dirty_set(mem, folio->index);
	return noop_dirty_folio(mapping, folio);
}

const struct address_space_operations vmplat_mem_aops = {
	.dirty_folio = vmplat_dirty_folio,
	.migrate_folio = filemap_migrate_folio,
};

const struct file_operations vmplat_mem_fops = {
	.owner = THIS_MODULE,
	.llseek = mem_llseek,
	.read_iter = mem_read_iter,
	.write_iter = mem_write_iter,
	.splice_read = vmplat_splice_read,
	.splice_write = iter_file_splice_write,
	.mmap = mem_mmap,
	.fsync = noop_fsync,
	.fallocate = mem_fallocate,
	.show_fdinfo = mem_show_fdinfo,
};

// SPDX-License-Identifier: GPL-2.0
/*
 * vmplatfs: the file system whose files are guest memory, and the door through
 * which files without a name come (VMPLAT_MEM_CREATE, views).
 *
 *   mount -t vmplatfs -o size=8G,mode=0770,uid=0,gid=kvm none /run/vmplat
 *
 * Names live in the dcache alone, as in tmpfs. There is no user namespace mount.
 */
#include <linux/file.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>

#include "vmplat.h"

static const struct inode_operations dir_iops;

static struct inode *new_inode_of(struct super_block *sb,
				  const struct inode *dir, umode_t mode)
{
	struct inode *inode = new_inode(sb);

	if (!inode)
		return NULL;
	inode->i_ino = get_next_ino();
	inode_init_owner(vmplat_nop_idmap, inode, dir, mode);
	vmplat_inode_touch(inode, true);
	if (S_ISDIR(mode)) {
		inode->i_op = &dir_iops;
		inode->i_fop = &simple_dir_operations;
		inc_nlink(inode);	/* "." */
	} else {
		struct vmplat_sb *sbi = sb->s_fs_info;

		inode->i_op = &vmplat_mem_iops;
		inode->i_fop = &vmplat_mem_fops;
		vmplat_mem(inode)->pinnable = sbi->pinnable;
		inode->i_mapping->a_ops = sbi->pinnable ? &vmplat_pinnable_aops :
							  &vmplat_mem_aops;
		vmplat_mem(inode)->huge = sbi->huge;
		/* What is pinned must not be where memory is to be unplugged. */
		mapping_set_gfp_mask(inode->i_mapping, sbi->pinnable ?
				     GFP_HIGHUSER : GFP_HIGHUSER_MOVABLE);
		mapping_set_unevictable(inode->i_mapping);
	}
	return inode;
}

/* ---- names ------------------------------------------------------------------ */

static int make(struct inode *dir, struct dentry *dentry, umode_t mode)
{
	struct inode *inode = new_inode_of(dir->i_sb, dir, mode);

	if (!inode)
		return -ENOSPC;
	vmplat_d_make(dentry, inode);
	if (S_ISREG(mode))
		vmplat_event_mem_created(vmplat_mem(inode));
	vmplat_inode_touch(dir, false);
	return 0;
}

static int dir_create(struct vmplat_idmap *idmap, struct inode *dir,
		      struct dentry *dentry, VMPLAT_CREATE_MODE)
{
	return make(dir, dentry, mode | S_IFREG);
}

static vmplat_mkdir_ret dir_mkdir(struct vmplat_idmap *idmap, struct inode *dir,
				  struct dentry *dentry, umode_t mode)
{
	int err = make(dir, dentry, mode | S_IFDIR);

	if (!err)
		inc_nlink(dir);		/* ".." */
	return vmplat_mkdir_err(err);
}

static int dir_tmpfile(struct vmplat_idmap *idmap, struct inode *dir,
		       struct file *file, umode_t mode)
{
	struct inode *inode = new_inode_of(dir->i_sb, dir, mode);

	if (!inode)
		return -ENOSPC;
	d_tmpfile(file, inode);
	vmplat_event_mem_created(vmplat_mem(inode));
	return finish_open_simple(file, 0);
}

static const struct inode_operations dir_iops = {
	.lookup = simple_lookup,
	.create = dir_create,
	.mkdir = dir_mkdir,
	.rmdir = simple_rmdir,
	.unlink = simple_unlink,
	.rename = simple_rename,
	.tmpfile = dir_tmpfile,
	.setattr = simple_setattr,
	.getattr = simple_getattr,
};

/* ---- super block -------------------------------------------------------------- */

static void evict(struct inode *inode)
{
	bool view = inode->i_fop == &vmplat_view_fops;

	vmplat_mem_evict(inode);
	if (view)
		vmplat_view_free(inode);
	else if (S_ISREG(inode->i_mode))
		vmplat_pool_drain(inode->i_sb->s_fs_info);
}

static int fs_statfs(struct dentry *dentry, struct kstatfs *buf)
{
	struct vmplat_sb *sbi = dentry->d_sb->s_fs_info;
	s64 used = percpu_counter_sum_positive(&sbi->used_pages);

	buf->f_type = VMPLATFS_MAGIC;
	buf->f_bsize = PAGE_SIZE;
	buf->f_namelen = NAME_MAX;
	if (sbi->max_pages) {
		buf->f_blocks = sbi->max_pages;
		buf->f_bfree = max_t(s64, (s64)sbi->max_pages - used, 0);
		buf->f_bavail = buf->f_bfree;
	}
	return 0;
}

static int show_options(struct seq_file *m, struct dentry *root)
{
	struct vmplat_sb *sbi = root->d_sb->s_fs_info;
	struct inode *inode = d_inode(root);

	if (sbi->max_pages)
		seq_printf(m, ",size=%lluk", sbi->max_pages << (PAGE_SHIFT - 10));
	seq_printf(m, ",mode=%03o,uid=%u,gid=%u", inode->i_mode & 07777,
		   from_kuid_munged(&init_user_ns, inode->i_uid),
		   from_kgid_munged(&init_user_ns, inode->i_gid));
	if (sbi->pinnable)
		seq_puts(m, ",pinnable");
	if (sbi->huge)
		seq_puts(m, ",huge");
	return 0;
}

static const struct super_operations super_ops = {
	.alloc_inode = vmplat_mem_alloc_inode,
	.free_inode = vmplat_mem_free_inode,
	.evict_inode = evict,
	.drop_inode = vmplat_drop_inode,
	.statfs = fs_statfs,
	.show_options = show_options,
	.nr_cached_objects = vmplat_pool_count,
	.free_cached_objects = vmplat_pool_scan,
};

static int fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct vmplat_sb *sbi = sb->s_fs_info;
	struct inode *inode;
	int err;

	err = vmplat_pool_init(sb);
	if (err)
		return err;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_blocksize = PAGE_SIZE;
	sb->s_blocksize_bits = PAGE_SHIFT;
	sb->s_magic = VMPLATFS_MAGIC;
	sb->s_op = &super_ops;
	sb->s_time_gran = 1;
	inode = new_inode_of(sb, NULL, S_IFDIR | sbi->mode);
	if (!inode)
		return -ENOMEM;
	inode->i_uid = sbi->uid;
	inode->i_gid = sbi->gid;
	sb->s_root = d_make_root(inode);
	return sb->s_root ? 0 : -ENOMEM;
}

static void kill_sb(struct super_block *sb)
{
	struct vmplat_sb *sbi = sb->s_fs_info;

	vmplat_kill_sb(sb);
	if (!sbi)
		return;
	vmplat_pool_exit(sbi);
	percpu_counter_destroy(&sbi->used_pages);
	kfree(sbi);
}

/* ---- mounting ------------------------------------------------------------------- */

enum { OPT_SIZE, OPT_MODE, OPT_UID, OPT_GID, OPT_PINNABLE, OPT_HUGE };

static const struct fs_parameter_spec params[] = {
	fsparam_string("size", OPT_SIZE),
	fsparam_u32oct("mode", OPT_MODE),
	fsparam_u32("uid", OPT_UID),
	fsparam_u32("gid", OPT_GID),
	fsparam_flag("pinnable", OPT_PINNABLE),
	fsparam_flag("huge", OPT_HUGE),
	{}
};

/* A size in bytes with an optional suffix, or a percentage of RAM. */
static int parse_size(struct fs_context *fc, const char *string, u64 *max_pages)
{
	char *rest;
	u64 bytes = memparse(string, &rest);

	if (rest != string && *rest == '%') {
		if (bytes > 100)
			return invalf(fc, "vmplatfs: size=%s is more than all memory",
				      string);
		bytes = (bytes << PAGE_SHIFT) * totalram_pages() / 100;
		rest++;
	}
	if (rest == string || *rest)
		return invalf(fc, "vmplatfs: size=%s is no number with K, M, G, T or %% after it",
			      string);
	*max_pages = DIV_ROUND_UP_ULL(bytes, PAGE_SIZE);
	return 0;
}

static int parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct vmplat_sb *sbi = fc->s_fs_info;
	struct fs_parse_result result;
	int opt = fs_parse(fc, params, param, &result);

	if (opt < 0)
		return opt;
	switch (opt) {
	case OPT_SIZE:
		return parse_size(fc, param->string, &sbi->max_pages);
	case OPT_MODE:
		if (result.uint_32 & ~07777)
			return invalf(fc, "vmplatfs: mode=%o is out of range",
				      result.uint_32);
		sbi->mode = result.uint_32;
		return 0;
	case OPT_UID:
		sbi->uid = make_kuid(current_user_ns(), result.uint_32);
		return uid_valid(sbi->uid) ? 0 :
			invalf(fc, "vmplatfs: uid=%u does not exist here",
			       result.uint_32);
	case OPT_GID:
		sbi->gid = make_kgid(current_user_ns(), result.uint_32);
		return gid_valid(sbi->gid) ? 0 :
			invalf(fc, "vmplatfs: gid=%u does not exist here",
			       result.uint_32);
	case OPT_PINNABLE:
		sbi->pinnable = true;
		return 0;
	case OPT_HUGE:
		sbi->huge = true;
		return 0;
	}
	return -EINVAL;
}

static int get_tree(struct fs_context *fc)
{
	struct vmplat_sb *sbi = fc->s_fs_info;

	if (sbi->huge && !sbi->pinnable)
		return invalf(fc, "vmplatfs: huge needs pinnable");
	return get_tree_nodev(fc, fill_super);
}

static void free_fc(struct fs_context *fc)
{
	struct vmplat_sb *sbi = fc->s_fs_info;

	if (!sbi)
		return;		/* the super block has it */
	percpu_counter_destroy(&sbi->used_pages);
	kfree(sbi);
}

static const struct fs_context_operations context_ops = {
	.parse_param = parse_param,
	.get_tree = get_tree,
	.free = free_fc,
};

static int init_fs_context(struct fs_context *fc)
{
	struct vmplat_sb *sbi = kzalloc(sizeof(*sbi), GFP_KERNEL);

	if (!sbi)
		return -ENOMEM;
	if (percpu_counter_init(&sbi->used_pages, 0, GFP_KERNEL)) {
		kfree(sbi);
		return -ENOMEM;
	}
	sbi->mode = 0755;
	sbi->uid = current_fsuid();
	sbi->gid = current_fsgid();
	/* As in tmpfs; memory without a name is limited by its cgroup alone. */
	if (!(fc->sb_flags & SB_KERNMOUNT))
		sbi->max_pages = totalram_pages() / 2;
	fc->s_fs_info = sbi;
	fc->ops = &context_ops;
	return 0;
}

static struct file_system_type fs_type = {
	.owner = THIS_MODULE,
	.name = "vmplatfs",
	.init_fs_context = init_fs_context,
	.parameters = params,
	.kill_sb = kill_sb,
};
MODULE_ALIAS_FS("vmplatfs");

int vmplat_fs_init(void)
{
	return register_filesystem(&fs_type);
}

void vmplat_fs_exit(void)
{
	unregister_filesystem(&fs_type);
}

/* ---- files without a name ---------------------------------------------------------- */

/**
 * vmplat_fs_file - an open regular file that no directory has
 * @mnt: a vmplatfs mount; the file keeps it busy
 * @name: what /proc shows
 * @bytes: its length
 * @perm: permission bits for re-opening it through /proc
 * @fops: its operations
 * @private: inode->i_private; owned by the file once this succeeds
 */
struct file *vmplat_fs_file(struct vfsmount *mnt, const char *name, loff_t bytes,
			    umode_t perm, const struct file_operations *fops,
			    void *private)
{
	struct inode *inode = new_inode_of(mnt->mnt_sb, NULL, S_IFREG | perm);
	struct file *file;

	if (!inode)
		return ERR_PTR(-ENOMEM);
	clear_nlink(inode);
	inode->i_fop = fops;
	if (fops == &vmplat_view_fops) {
		inode->i_op = &vmplat_view_iops;
		i_size_write(inode, bytes);
	}
	file = alloc_file_pseudo(inode, mnt, name,
				 perm & 0200 ? O_RDWR : O_RDONLY, fops);
	if (IS_ERR(file)) {
		iput(inode);
		return file;
	}
	/* The last fput() drops a module reference that nobody took. */
	__module_get(THIS_MODULE);
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD;
	if (perm & 0200)
		file->f_mode |= FMODE_PWRITE;
	file->f_flags |= O_LARGEFILE;
	inode->i_private = private;
	return file;
}

int vmplat_mem_create(struct vmplat_cmd *cmd)
{
	struct vmplat_mem_create *arg = cmd->arg;
	bool huge = arg->flags & VMPLAT_MEM_F_HUGE;
	char pinnable[] = "pinnable", blocks[] = "pinnable,huge";
	struct vfsmount *mnt;
	struct file *file;
	int err;

	if (arg->__reserved)
		return -EOPNOTSUPP;
	if (!arg->mem_bytes || !PAGE_ALIGNED(arg->mem_bytes))
		return -EINVAL;
	if (huge && !(arg->flags & VMPLAT_MEM_F_PINNABLE))
		return -EINVAL;
	if (arg->mem_bytes > MAX_LFS_FILESIZE)
		return -EFBIG;
	/*
	 * Each memory has a mount of its own, which goes with its last file. One
	 * for all would have to be kept, and would keep this module for ever.
	 */
	mnt = vfs_kern_mount(&fs_type, SB_KERNMOUNT, fs_type.name,
			     huge ? blocks :
			     arg->flags & VMPLAT_MEM_F_PINNABLE ? pinnable : NULL);
	if (IS_ERR(mnt))
		return PTR_ERR(mnt);
	file = vmplat_fs_file(mnt, "[vmplat-mem]", arg->mem_bytes, 0600,
			      &vmplat_mem_fops, NULL);
	mntput(mnt);
	if (IS_ERR(file))
		return PTR_ERR(file);
	err = vmplat_mem_resize(vmplat_mem_of(file), arg->mem_bytes);
	if (!err)
		err = vmplat_mem_use(vmplat_mem_of(file));
	if (err) {
		fput(file);
		return err;
	}
	vmplat_event_mem_created(vmplat_mem_of(file));
	cmd->new_file = file;
	return 0;
}

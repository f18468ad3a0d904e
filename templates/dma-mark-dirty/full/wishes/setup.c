{{if .Has.syncs_kept -}}
/* An early parameter, so that what is unmapped during boot is marked, too. */
{{- else -}}
/* An early parameter, because drivers probe before others are parsed. */
{{- end}}
static int __init dma_mark_dirty_setup(char *level)
{
	if (!level)
		return -EINVAL;

	if (!strcmp(level, "auto") || !strcmp(level, "off")) {
		__dma_mark_dirty_armed = false;
		dma_mark_dirty_on_at_boot = false;
	} else if (!strcmp(level, "armed")) {
		__dma_mark_dirty_armed = true;
		dma_mark_dirty_on_at_boot = false;
	} else if (!strcmp(level, "on")) {
		__dma_mark_dirty_armed = true;
		dma_mark_dirty_on_at_boot = true;
	} else {
		pr_warn("unknown level \"%s\", use off, auto, armed or on\n", level);
		return -EINVAL;
	}

	dma_mark_dirty_may_arm = strcmp(level, "off");
	return 0;
}

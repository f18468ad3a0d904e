    QTAILQ_REMOVE_RCU(&savevm_state.handlers, se, entry);
}

/*
 * The first entry behind @se, or of all if it is NULL, that has handlers of its
 * own.  The migration thread walks along these without the BQL.  They stay as
 * long as a migration is running; the entries between them may go with their
 * devices.
 */
static SaveStateEntry *savevm_next_live(SaveStateEntry *se)
{
    RCU_READ_LOCK_GUARD();

    do {
        se = se ? QTAILQ_NEXT_RCU(se, entry) :
                  QTAILQ_FIRST_RCU(&savevm_state.handlers);
    } while (se && !se->ops);
    return se;
}

bool savevm_has_live_handlers(VMStateIf *obj)
{
    g_autofree char *id = vmstate_if_get_id(obj);
    SaveStateEntry *se;
    const char *rest;

    QTAILQ_FOREACH(se, &savevm_state.handlers, entry) {
        if (id && se->ops && strstart(se->idstr, id, &rest) && *rest == '/') {
            return true;
        }
    }
    return false;

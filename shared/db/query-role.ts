import type { Statement } from './pool.ts'

/** Identifies a database. The same through every host name, pooler and physical replica. */
export const databaseIdentity: Statement = {
  name: 'database_identity',
  text: `SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()) || '/' || oid AS identity
    FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()`,
}

/**
 * Checks the role of a connection that should only read. `refused`: the role is a superuser, can become one, or can access files and
 * programs of the server. `writes`: some of its other privileges beyond reading, including those of its member roles and of PUBLIC.
 */
export const roleProblems = `SELECT (
    SELECT CASE WHEN r.rolsuper THEN 'its role is a superuser, or can become one'
      ELSE 'its role reaches files or programs of the server (' || r.rolname || ')' END
    FROM pg_catalog.pg_roles r
    WHERE (r.rolsuper OR r.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))
      AND (r.rolname = session_user OR pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER'))
    ORDER BY r.rolsuper DESC LIMIT 1
  ) AS refused, (
    SELECT pg_catalog.string_agg(what, ', ') FROM (
      (SELECT 'write to ' || c.oid::pg_catalog.regclass AS what FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
          AND (pg_catalog.has_table_privilege(session_user, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
            OR pg_catalog.has_any_column_privilege(session_user, c.oid, 'INSERT, UPDATE'))
        ORDER BY c.oid LIMIT 3)
      UNION ALL
      (SELECT 'create in schema ' || n.nspname FROM pg_catalog.pg_namespace n
        WHERE n.nspname !~ '^pg_' AND pg_catalog.has_schema_privilege(session_user, n.oid, 'CREATE') ORDER BY n.oid LIMIT 1)
      UNION ALL
      (SELECT 'create roles or databases, replicate or pass over row security' FROM pg_catalog.pg_roles
        WHERE rolname = session_user AND (rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls))
    ) may
  ) AS writes`

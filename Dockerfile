# One image for the API, the workers and the migrations; the command says which:
#   node apps/api/main.ts        (default)
#   node workers/main.ts
#   node apps/local/migrate.ts

FROM node:24.21.0-trixie-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
# Left out: the development tools (among them the package `node`) and the optional packages (the Postgres binaries of
# `npm start`). No package that is left has to run a script.
RUN npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

FROM node:24.21.0-trixie-slim
# The loopback address of a container cannot be reached from outside.
ENV NODE_ENV=production HOST=0.0.0.0
# As `npm start` does: see shared/process/heap.ts.
ENV NODE_OPTIONS=--max-semi-space-size=8
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
# Owned by its user, so that it can read them whatever the modes in the checkout are.
COPY --chown=node:node package.json ./
COPY --chown=node:node drizzle ./drizzle
COPY --chown=node:node shared ./shared
COPY --chown=node:node workers ./workers
COPY --chown=node:node apps ./apps
# By number: Kubernetes cannot hold a name against runAsNonRoot. It is the user `node`.
USER 1000:1000
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
# Of the API; for a worker, see docker-compose.yml. Kubernetes has its own (deploy/base).
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 8080}/health/ready`).then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "apps/api/main.ts"]
